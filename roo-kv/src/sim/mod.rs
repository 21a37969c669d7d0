//! The whole store under simulated time, network and disks, in one thread: a seed decides everything, so that what it
//! shows can be seen again.
//!
//! Each host has a runtime of its own with a paused clock, which the run steps by milliseconds: crash, pause and drift are
//! a runtime that is dropped, not stepped, or stepped faster. What runs on it is the store as it is (formation, links,
//! handler, openraft, log, state machine, snapshots, leases), but for TLS and TCP, whose place the network takes, and sled,
//! whose place a map in memory takes. Disks take their time, fill up, and lose what was not synced.
//!
//! `ROO_SIM_SEED=7` runs one seed, `ROO_SIM_SEEDS=5000` runs so many.
#![cfg(test)]

mod client;
mod faults;
mod history;
mod host;
mod invariants;
mod line;
mod network;
mod trace;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use client::Reads;
use world::{Ran, Setup, run};

/// How many seeds an ordinary test run takes.
const SEEDS: u64 = 16;

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// Runs one seed in a thread of its own, which it makes a simulation.
fn in_own_thread(setup: Setup) -> Result<Ran, String> {
    let running = std::thread::Builder::new().name(format!("seed {}", setup.seed)).spawn(move || run(setup));
    let ended = running.expect("a thread can be started").join();
    ended.unwrap_or_else(|_| Err(format!("{setup:?}\nit panicked")))
}

#[test]
fn nothing_is_violated_whatever_fails() {
    if let Some(seed) = number_in("ROO_SIM_SEED") {
        let ran = in_own_thread(Setup::honest(seed)).unwrap_or_else(|story| panic!("{story}"));
        return println!("{ran:?}");
    }
    let next = AtomicU64::new(0);
    let seeds = number_in("ROO_SIM_SEEDS").unwrap_or(SEEDS);
    let failed = std::sync::Mutex::new(Vec::new());
    let (operations, virtual_ms) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match in_own_thread(Setup::honest(seed)) {
                        Ok(ran) => {
                            operations.fetch_add(ran.operations as u64, Ordering::Relaxed);
                            virtual_ms.fetch_add(ran.virtual_ms, Ordering::Relaxed);
                        }
                        Err(story) => {
                            eprintln!("ROO_SIM_SEED={seed} shows it again:\n{story}\n");
                            failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{seeds} seeds, {operations:?} calls, {virtual_ms:?} simulated milliseconds");
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 3] {
        let first = in_own_thread(Setup::honest(seed)).unwrap_or_else(|story| panic!("{story}"));
        let second = in_own_thread(Setup::honest(seed)).unwrap_or_else(|story| panic!("{story}"));
        assert_eq!(first, second);
        assert!(first.operations > 50, "{first:?}");
    }
}

#[test]
fn a_disk_that_acknowledges_before_it_syncs_is_found() {
    let found = (0..30).any(|seed| in_own_thread(Setup { disks_lie: true, ..Setup::honest(seed) }).is_err());
    assert!(found, "30 seeds on disks that lie, and nothing was noticed");
}

#[test]
fn stale_reads_that_pass_as_linearizable_are_found() {
    let found = (0..10).any(|seed| in_own_thread(Setup { reads: Reads::Stale, ..Setup::honest(seed) }).is_err());
    assert!(found, "10 seeds with stale reads, and nothing was noticed");
}
