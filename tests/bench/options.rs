//! What the command line asks for.

use std::time::Duration;

/// A part of the benchmark, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Proxy,
    Store,
    Cluster,
    Scale,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Proxy, Self::Store, Self::Cluster, Self::Scale];

    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Store => "store",
            Self::Cluster => "cluster",
            Self::Scale => "scale",
        }
    }
}

/// The parts to run, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    parts: Vec<Part>,
    pub rounds: usize,
    /// Only shows that everything works: one short round.
    pub quick: bool,
}

const USAGE: &str =
    "usage: cargo bench -p roo-tests --bench peers -- [proxy|store|cluster|scale] [--rounds N] [--quick]";

impl Options {
    /// Parses arguments; the error tells what is wrong and the usage.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let (mut parts, mut rounds, mut quick) = (Vec::new(), None, false);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => quick = true,
                // cargo's own addition
                "--bench" => {}
                "--rounds" => {
                    let count = arguments.next().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
                    rounds = Some(count.ok_or_else(|| format!("--rounds needs a number from 1\n{USAGE}"))?);
                }
                other => {
                    let part = Part::ALL.into_iter().find(|part| part.name() == other);
                    parts.push(part.ok_or_else(|| format!("unknown argument `{other}`\n{USAGE}"))?);
                }
            }
        }
        if parts.is_empty() {
            parts = Part::ALL.to_vec();
        }
        Ok(Self { parts, rounds: rounds.unwrap_or(if quick { 1 } else { 5 }), quick })
    }

    /// Whether a part is to be run.
    pub fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// How long each program is loaded in one round.
    pub fn round(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 4 })
    }

    /// The command that repeats this run.
    pub fn command(&self) -> String {
        let all = Part::ALL.into_iter().all(|part| self.wants(part));
        let chosen = Part::ALL.into_iter().filter(|part| !all && self.wants(*part));
        let parts: String = chosen.map(|part| format!(" {}", part.name())).collect();
        let quick = if self.quick { " --quick" } else { "" };
        format!("cargo bench -p roo-tests --bench peers --{parts} --rounds {}{quick}", self.rounds)
    }
}
