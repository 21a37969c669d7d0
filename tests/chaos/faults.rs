//! Histories under all faults at once.

use fastrand::Rng;
use tokio::time::Instant;

use crate::client::Reads;
use crate::run::{Report, Run};
use crate::support::context::Context;
use crate::{linearizability, options};

/// Seeds that may pass before the lie is found.
const LIES_MAX: usize = 6;

/// Operations with an answer that a run must have at least, or it shows nothing.
const DONE_MIN: usize = 100;

/// Of a soak's time: for three nodes, and for five. The rest is for other tests.
const SOAK_PART: f64 = 0.4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_stay_linearizable_under_all_faults() {
    stay_linearizable(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_stay_linearizable_under_all_faults() {
    stay_linearizable(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_reads_that_pass_for_linearizable_ones_are_found() {
    for _ in 0..LIES_MAX {
        let report = run(3, Reads::StaleAsLinearizable).await;
        // Not by the revisions, which give it away, too: the search must find it.
        if let Err(found) = linearizability::check(&report.history) {
            println!("{found}");
            return;
        }
    }
    panic!("the checker found nothing in {LIES_MAX} runs");
}

async fn stay_linearizable(nodes: usize) {
    let start = Instant::now();
    loop {
        run(nodes, Reads::Linearizable).await;
        let more = options::soak(SOAK_PART).is_some_and(|whole| start.elapsed() < whole);
        if !more || options::seed().is_some() {
            return;
        }
    }
}

/// One run with a seed that is printed. The files are kept if it ends in a panic.
async fn run(nodes: usize, reads: Reads) -> Report {
    let seed = options::seed().unwrap_or_else(|| Rng::new().u64(..1 << 32));
    let context = Context::new();
    println!("{nodes} nodes, {reads:?}: seed {seed} (again: ROO_CHAOS_SEED={seed})");
    let run = Run { seed, nodes, duration: options::run_duration(), reads };
    let report = run.run(&context).await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    println!("{nodes} nodes, {reads:?}: seed {seed}: {}", report.summary());
    assert!(report.done() >= DONE_MIN, "seed {seed}: only {} operations were done", report.done());
    assert!(report.changes > 0, "seed {seed}: the membership never changed");
    if let (Reads::Linearizable, Err(violation)) = (reads, &report.verdict) {
        panic!("seed {seed}: {violation}");
    }
    report
}
