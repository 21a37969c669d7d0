//! What the environment sets: how long, how often, and which seed.

use std::time::Duration;

/// A seed to run again.
const SEED: &str = "ROO_CHAOS_SEED";
/// Seconds of faults in a run.
const SECONDS: &str = "ROO_CHAOS_SECONDS";
/// How often a node is killed while it writes.
const KILLS: &str = "ROO_CHAOS_KILLS";
/// Keys that are there meanwhile.
const KEYS: &str = "ROO_CHAOS_KEYS";
/// Minutes of the whole soak; without it, each test makes one run.
const SOAK: &str = "ROO_SOAK_MINUTES";

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")))
}

/// The seed that is to be run, and no other.
pub fn seed() -> Option<u64> {
    number(SEED)
}

/// How long faults begin in a run.
pub fn run_duration() -> Duration {
    Duration::from_secs(number(SECONDS).unwrap_or(45))
}

/// How long runs with new seeds are made, of a soak that this is a `part` of.
pub fn soak(part: f64) -> Option<Duration> {
    number(SOAK).map(|minutes| Duration::from_secs(minutes * 60).mul_f64(part))
}

pub fn kills() -> u64 {
    number(KILLS).unwrap_or(50)
}

pub fn keys() -> u64 {
    number(KEYS).unwrap_or(100_000)
}
