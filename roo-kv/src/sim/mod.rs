//! The whole store under simulated time, network and disks, in one thread: a seed decides everything, so that what it
//! shows can be seen again.
//!
//! Each host has a runtime of its own with a paused clock, which the run steps by milliseconds: crash, pause and drift are
//! a runtime that is dropped, not stepped, or stepped faster. What runs on it is the store as it is (formation, links,
//! handler, openraft, log, state machine, snapshots, leases), but for TLS and TCP, whose place the network takes, and sled,
//! whose place a map in memory takes. Disks take their time, fill up, and lose what was not synced.
//!
//! `ROO_SIM_SEED=7` runs one seed, `ROO_SIM_SEEDS=5000` runs so many, `ROO_SIM_FROM=100000` begins with that one.
#![cfg(test)]

mod client;
mod faults;
mod history;
mod host;
mod invariants;
mod line;
mod network;
mod sabotage;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sabotage::Sabotage;
use world::{Ran, Setup, run};

/// How many seeds an ordinary test run takes.
const SEEDS: u64 = 2000;

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// Runs one seed in a thread of its own, which it makes a simulation.
fn in_own_thread(setup: Setup) -> Result<Ran, String> {
    let running = std::thread::Builder::new().name(format!("seed {}", setup.seed)).spawn(move || run(setup));
    let ended = running.expect("a thread can be started").join();
    ended.unwrap_or_else(|_| Err(format!("{setup:?}\nit panicked")))
}

/// What all seeds together were.
#[derive(Default)]
struct Total {
    operations: usize,
    virtual_ms: u64,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

impl Total {
    fn add(&mut self, seed: u64, ended: Result<Ran, String>) {
        match ended {
            Ok(ran) => {
                self.operations += ran.operations;
                self.virtual_ms += ran.virtual_ms;
                for (name, count) in ran.faults {
                    *self.faults.entry(name).or_default() += count;
                }
            }
            Err(story) => {
                eprintln!("ROO_SIM_SEED={seed} shows it again:\n{story}\n");
                self.failed.push(seed);
            }
        }
    }
}

#[test]
fn nothing_is_violated_whatever_fails() {
    if let Some(seed) = number_in("ROO_SIM_SEED") {
        let ran = in_own_thread(Setup::honest(seed)).unwrap_or_else(|story| panic!("{story}"));
        return println!("{ran:?}");
    }
    let from = number_in("ROO_SIM_FROM").unwrap_or(0);
    let seeds = from..from + number_in("ROO_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, total) = (AtomicU64::new(from), Mutex::<Total>::default());
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            let ended = in_own_thread(Setup::honest(seed));
            total.lock().unwrap_or_else(PoisonError::into_inner).add(seed, ended);
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let Total { operations, virtual_ms, faults, failed } = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("seeds {seeds:?}: {operations} calls in {} simulated seconds, and {faults:?}", virtual_ms / 1000);
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [0, 1, 4] {
        let first = in_own_thread(Setup::honest(seed)).unwrap_or_else(|story| panic!("{story}"));
        let second = in_own_thread(Setup::honest(seed)).unwrap_or_else(|story| panic!("{story}"));
        assert_eq!(first, second);
        assert!(first.operations > 50, "{first:?}");
    }
}

/// Looks at one invariant alone, in a world in which it cannot hold, until it is found to be violated.
fn is_found(invariant: &'static str, sabotage: Sabotage) {
    let violated = format!("violated: {invariant}: ");
    let found = (0..60).any(|seed| {
        let ended = in_own_thread(Setup::sabotaged(seed, sabotage, invariant));
        ended.is_err_and(|story| story.contains(&violated))
    });
    assert!(found, "60 seeds with {sabotage:?}, and {invariant} was not seen to be violated");
}

#[test]
fn stale_reads_that_pass_as_linearizable_are_found() {
    is_found("linearizable", Sabotage::StaleReads);
}

#[test]
fn a_disk_that_acknowledges_before_it_syncs_is_found() {
    let found = (0..60).any(|seed| {
        let setup = Setup { only: None, ..Setup::sabotaged(seed, Sabotage::LyingDisks, "") };
        in_own_thread(setup).is_err()
    });
    assert!(found, "60 seeds on disks that lie, and nothing was noticed");
}

#[test]
fn votes_and_entries_that_are_forgotten_are_found() {
    is_found("leadership", Sabotage::OldDisks);
}

#[test]
fn a_state_that_does_not_follow_from_the_log_is_found() {
    is_found("agreement", Sabotage::PrivateWrite);
}

#[test]
fn a_state_that_goes_back_is_found() {
    is_found("progress", Sabotage::StateGoesBack);
}

#[test]
fn leases_that_end_early_are_found() {
    is_found("leases", Sabotage::FastClocks);
}

#[test]
fn a_log_that_is_purged_without_a_snapshot_is_found() {
    is_found("purge", Sabotage::PurgedTooFar);
}

#[test]
fn a_watch_with_a_gap_is_found() {
    is_found("watches", Sabotage::LossyWatch);
}

#[test]
fn a_cluster_that_does_not_recover_is_found() {
    is_found("recovery", Sabotage::LastingCut);
}

#[test]
fn a_node_that_ends_without_a_reason_is_found() {
    is_found("endings", Sabotage::UnnotedDiskFaults);
}

#[test]
fn a_task_that_panics_is_found() {
    is_found("panics", Sabotage::Panic);
}
