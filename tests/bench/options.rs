//! What the command line asks for.

use std::time::Duration;

use crate::program;

/// A part of the benchmark, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Proxy,
    AccessLog,
    Instructions,
    Store,
    Cluster,
    Keys,
    Watchers,
    Learners,
    Names,
    Certificates,
    Issuing,
}

impl Part {
    pub const ALL: [Self; 11] = [
        Self::Proxy,
        Self::AccessLog,
        Self::Instructions,
        Self::Names,
        Self::Certificates,
        Self::Issuing,
        Self::Store,
        Self::Cluster,
        Self::Keys,
        Self::Watchers,
        Self::Learners,
    ];
    /// What much of something costs.
    const SCALE: [Self; 3] = [Self::Keys, Self::Watchers, Self::Learners];

    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::AccessLog => "access-log",
            Self::Instructions => "instructions",
            Self::Store => "store",
            Self::Cluster => "cluster",
            Self::Keys => "keys",
            Self::Watchers => "watchers",
            Self::Learners => "learners",
            Self::Names => "names",
            Self::Certificates => "certificates",
            Self::Issuing => "issuing",
        }
    }

    /// The parts that a word on the command line stands for; none if it is unknown.
    fn named(word: &str) -> Vec<Self> {
        match word {
            "scale" => Self::SCALE.to_vec(),
            _ => Self::ALL.into_iter().filter(|part| part.name() == word).collect(),
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

const USAGE: &str = "usage: cargo bench -p roo-tests --bench peers -- [PART]... [--rounds N] [--quick]\n\
                     parts: proxy, access-log, instructions, names, certificates, issuing, store, cluster, keys, watchers, \
                     learners; scale is the last three";

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
                other => match Part::named(other) {
                    none if none.is_empty() => return Err(format!("unknown argument `{other}`\n{USAGE}")),
                    named => parts.extend(named),
                },
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

    /// Checks that this machine can run it; the error tells what to do.
    pub fn check(&self) -> Result<(), String> {
        let mut programs = Vec::new();
        let proxies = self.wants(Part::Proxy) || self.wants(Part::AccessLog);
        if proxies {
            programs.extend(["nginx", "haproxy", "wrk", "h2load", "taskset"]);
        }
        if self.wants(Part::Instructions) {
            programs.extend(["nginx", "h2load", "valgrind", "callgrind_control"]);
        }
        if self.wants(Part::Names) {
            programs.extend(["nginx", "haproxy", "caddy", "wrk", "taskset"]);
        }
        if self.wants(Part::Issuing) {
            programs.extend(["caddy", "pebble"]);
        }
        if self.wants(Part::Store) || self.wants(Part::Keys) {
            programs.extend(["etcd", "findmnt"]);
        }
        program::check(&programs)?;
        if (proxies || self.wants(Part::Names)) && std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            let needs =
                "the parts `proxy`, `access-log` and `names` need two cores: one for the proxy, one for the load";
            return Err(needs.to_owned());
        }
        Ok(())
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
