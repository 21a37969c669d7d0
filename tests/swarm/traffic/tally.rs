//! What became of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Get,
    /// One whose answer takes a while.
    Slow,
    Post,
    Download,
    Socket,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    /// Since the clients began.
    pub at: Duration,
    /// How long it had been under way.
    pub took: Duration,
    /// The node that was asked, from 1.
    pub node: usize,
    /// Whether a part of the answer had come that was no error of Roo's.
    pub begun: bool,
    pub why: String,
}

/// Counts, shared by all clients.
pub struct Tally {
    start: Instant,
    ended: Mutex<Ended>,
    refused: AtomicU64,
}

#[derive(Default)]
struct Ended {
    well: BTreeMap<Kind, u64>,
    times: Vec<Duration>,
    failures: Vec<Failure>,
}

/// Counts up to a moment.
#[derive(Clone, Debug)]
pub struct Report {
    pub well: BTreeMap<Kind, u64>,
    pub failures: Vec<Failure>,
    /// How often a node let nobody in, and the client went to the next one.
    pub refused: u64,
    median: Duration,
    p99: Duration,
}

impl Tally {
    pub fn new() -> Self {
        Self { start: Instant::now(), ended: Mutex::default(), refused: AtomicU64::new(0) }
    }

    pub fn well(&self, kind: Kind, took: Duration) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.well.entry(kind).or_default() += 1;
        if matches!(kind, Kind::Get | Kind::Post) {
            ended.times.push(took);
        }
    }

    pub fn failed(&self, kind: Kind, node: usize, took: Duration, begun: bool, why: String) {
        let failure = Failure { kind, at: self.start.elapsed(), took, node, begun, why };
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).failures.push(failure);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub fn report(&self) -> Report {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = ended.times.clone();
        times.sort();
        let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
        Report {
            well: ended.well.clone(),
            failures: ended.failures.clone(),
            refused: self.refused.load(Ordering::Relaxed),
            median: at(50),
            p99: at(99),
        }
    }
}

impl Report {
    /// What has come to this since a former report of the same clients.
    pub fn since(mut self, former: &Report) -> Report {
        for (kind, count) in &mut self.well {
            *count -= former.well.get(kind).copied().unwrap_or_default();
        }
        self.failures.drain(..former.failures.len());
        self.refused -= former.refused;
        self
    }
}

/// How many failures are shown each by itself.
const SHOWN: usize = 30;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let well: Vec<String> = self.well.iter().map(|(kind, count)| format!("{count} {kind:?}")).collect();
        let (median, p99) = (self.median.as_millis(), self.p99.as_millis());
        write!(
            f,
            "{} failed, well: {}; p50 {median} ms, p99 {p99} ms; {} times on to the next node",
            self.failures.len(),
            well.join(", "),
            self.refused
        )?;
        for failure in self.failures.iter().take(SHOWN) {
            let Failure { kind, at, took, node, begun, why } = failure;
            let begun = if *begun { ", begun" } else { "" };
            write!(
                f,
                "\n    {:.3} s: {kind:?} at node {node}, {} ms{begun}: {why}",
                at.as_secs_f64(),
                took.as_millis()
            )?;
        }
        if self.failures.len() > SHOWN {
            write!(f, "\n    and {} more", self.failures.len() - SHOWN)?;
        }
        Ok(())
    }
}
