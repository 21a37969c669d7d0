//! What the command line asks for.

use std::time::Duration;

/// The parts to run, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub proxy: bool,
    pub store: bool,
    pub cluster: bool,
    pub rounds: usize,
    /// Only shows that everything works: one short round.
    pub quick: bool,
}

const USAGE: &str = "usage: cargo bench -p roo-tests --bench peers -- [proxy|store|cluster] [--rounds N] [--quick]";

impl Options {
    /// Parses arguments; the error tells what is wrong and the usage.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let (mut proxy, mut store, mut cluster, mut rounds, mut quick) = (false, false, false, None, false);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "proxy" => proxy = true,
                "store" => store = true,
                "cluster" => cluster = true,
                "--quick" => quick = true,
                // cargo's own addition
                "--bench" => {}
                "--rounds" => {
                    let count = arguments.next().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
                    rounds = Some(count.ok_or_else(|| format!("--rounds needs a number from 1\n{USAGE}"))?);
                }
                other => return Err(format!("unknown argument `{other}`\n{USAGE}")),
            }
        }
        if !proxy && !store && !cluster {
            (proxy, store, cluster) = (true, true, true);
        }
        Ok(Self { proxy, store, cluster, rounds: rounds.unwrap_or(if quick { 1 } else { 5 }), quick })
    }

    /// How long each program is loaded in one round.
    pub fn round(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 4 })
    }

    /// The command that repeats this run.
    pub fn command(&self) -> String {
        let parts = [(self.proxy, " proxy"), (self.store, " store"), (self.cluster, " cluster")];
        let all = parts.iter().all(|(run, _)| *run);
        let half: String = parts.iter().filter(|(run, _)| *run && !all).map(|(_, name)| *name).collect();
        let quick = if self.quick { " --quick" } else { "" };
        format!("cargo bench -p roo-tests --bench peers --{half} --rounds {}{quick}", self.rounds)
    }
}
