//! One address that a route leads to, and how it fares. Shared by all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::address::Address;
use super::latency::Latency;
use crate::failure::Failure;
use crate::route::Ejection;

/// An address of a destination. It outlives changes of its neighbours.
pub(crate) struct Instance {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) address: Address,
    /// Its own clock begins here.
    born: Instant,
    /// Requests whose response is not complete.
    in_flight: AtomicUsize,
    pub(crate) latency: Latency,
    /// Failed requests in a row.
    failures: AtomicU32,
    /// Zero while it is in. Else out: until one request has found out, which may be tried from this age on, in
    /// milliseconds.
    out_until: AtomicU64,
    /// Changed when it goes out and comes back; no request that succeeds looks at it otherwise.
    history: Mutex<History>,
}

#[derive(Clone, Copy, Default)]
struct History {
    /// Ejections that count.
    ejections: u32,
    /// The age at which it came back.
    back_at: Duration,
    cause: Option<Cause>,
}

/// What an instance did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There was no connection: nothing was sent.
    Unconnected(Failure),
    /// The request was sent and not answered.
    Unanswered(Failure),
    /// It answered that it can't.
    Status(u16),
}

impl Cause {
    /// As in `Roo-Error`, or the status.
    pub(crate) fn reason(self) -> String {
        match self {
            Cause::Unconnected(failure) | Cause::Unanswered(failure) => failure.reason().to_owned(),
            Cause::Status(status) => format!("status-{status}"),
        }
    }

    pub(crate) fn is_unconnected(self) -> bool {
        matches!(self, Cause::Unconnected(_))
    }
}

/// How an instance that is out is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// Until it is tried again; zero if the next request may.
    pub(crate) left: Duration,
    pub(crate) cause: Option<Cause>,
    pub(crate) ejections: u32,
}

impl Instance {
    pub(crate) fn new(upstream: Arc<Upstream>, address: Address, now: Instant) -> Instance {
        Instance {
            upstream,
            address,
            born: now,
            in_flight: AtomicUsize::new(0),
            latency: Latency::default(),
            failures: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            history: Mutex::default(),
        }
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Whether requests pass it over.
    pub(crate) fn is_out(&self) -> bool {
        self.out_until.load(Ordering::Relaxed) != 0
    }

    /// How it is out, if it is.
    pub(crate) fn out(&self, now: Instant) -> Option<Out> {
        let until = self.out_until.load(Ordering::Relaxed);
        let history = *self.history.lock().unwrap_or_else(PoisonError::into_inner);
        (until != 0).then(|| Out {
            left: Duration::from_millis(until).saturating_sub(self.age(now)),
            cause: history.cause,
            ejections: history.ejections,
        })
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether its time out is over and the caller is the one to find out how it is. Nobody else is for a while.
    pub(crate) fn try_probe(&self, now: Instant) -> bool {
        let (until, age) = (self.out_until.load(Ordering::Relaxed), millis(self.age(now)));
        let next = age.saturating_add(millis(PROBE_AGAIN_AFTER));
        until != 0
            && until <= age
            && self.out_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// It has answered. Whether that brings it back in.
    pub(crate) fn answered(&self, chosen: Chosen, now: Instant) -> bool {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        // What was sent before it went out says nothing about now.
        if chosen == Chosen::Turn || !self.is_out() {
            return false;
        }
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.back_at = self.age(now);
        self.out_until.swap(0, Ordering::Relaxed) != 0
    }

    /// It has failed. Whether it is to be ejected for that, if its neighbours can do without it.
    pub(crate) fn failed(&self, cause: Cause, chosen: Chosen, rules: &Ejection) -> bool {
        if rules.failures == 0 {
            return false;
        }
        if self.is_out() {
            // News from before, or of those who knew: only who was sent to find out makes it longer.
            return chosen == Chosen::Probe;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        cause.is_unconnected() || failures >= rules.failures
    }

    /// Takes it out, or keeps it out for longer.
    pub(crate) fn eject(&self, cause: Cause, rules: &Ejection, now: Instant) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let age = self.age(now);
        let before = if self.is_out() {
            history.ejections
        } else {
            rules.remembered(history.ejections, age.saturating_sub(history.back_at))
        };
        *history = History { ejections: before.saturating_add(1), cause: Some(cause), ..*history };
        // Spread, so that nodes that put it out together do not try it together for ever.
        let time_out = rules.time_out(history.ejections).mul_f64(0.9 + 0.2 * fastrand::f64());
        self.out_until.store(millis(age + time_out).max(1), Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
    }
}

/// How an instance came to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// It is in, and it was its turn.
    Turn,
    /// It is out, and this request finds out whether it should be.
    Probe,
    /// All are out: any may do.
    Panic,
}

/// A request that finds out may be lost. Another one is sent after this time.
const PROBE_AGAIN_AFTER: Duration = Duration::from_secs(2);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Counts a request as under way until dropped.
pub(crate) struct InFlight(pub(crate) Arc<Instance>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::route::Route;
    use crate::upstream::Upstreams;

    const SECOND: Duration = Duration::from_secs(1);
    const REFUSED: Cause = Cause::Unconnected(Failure::Refused);
    const RESET: Cause = Cause::Unanswered(Failure::Reset);

    fn instance() -> Arc<Instance> {
        let route: Route = "http://192.0.2.1".parse().unwrap();
        let upstream = Upstreams::new(&route).list[0].clone();
        Arc::new(Instance::new(upstream, Address::Ip(([192, 0, 2, 1], 80).into()), Instant::now()))
    }

    fn fails(instance: &Instance, cause: Cause, chosen: Chosen) -> bool {
        let (rules, now) = (Ejection::default(), Instant::now());
        let is_due = instance.failed(cause, chosen, &rules);
        if is_due {
            instance.eject(cause, &rules, now);
        }
        is_due
    }

    /// The seconds that it is out for, give or take the spread.
    fn out(instance: &Instance) -> f64 {
        instance.out(Instant::now()).unwrap().left.as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn who_accepts_nothing_is_out_at_once_and_longer_each_time() {
        let instance = instance();
        assert!(fails(&instance, REFUSED, Chosen::Turn));
        for seconds in [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let left = out(&instance);
            assert!((seconds * 0.89..seconds * 1.11).contains(&left), "{left} of {seconds}");
            assert!(!instance.try_probe(Instant::now()));
            tokio::time::advance(instance.out(Instant::now()).unwrap().left).await;
            // One finds out, and nobody else meanwhile.
            assert!(instance.try_probe(Instant::now()));
            assert!(!instance.try_probe(Instant::now()));
            assert!(instance.is_out());
            assert!(fails(&instance, REFUSED, Chosen::Probe));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_back_and_its_past_is_forgotten_in_time() {
        let instance = instance();
        for _ in 0..3 {
            assert!(fails(&instance, REFUSED, Chosen::Turn));
            assert!(instance.answered(Chosen::Probe, Instant::now()));
            assert!(!instance.is_out());
        }
        assert!(fails(&instance, REFUSED, Chosen::Turn));
        assert!((14.0..18.0).contains(&out(&instance)));
        assert!(instance.answered(Chosen::Panic, Instant::now()));
        tokio::time::advance(20 * SECOND).await;
        assert!(fails(&instance, REFUSED, Chosen::Turn));
        assert!((7.0..9.0).contains(&out(&instance)), "two of four are forgotten, this is the third");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_requests_in_a_row_put_it_out() {
        let instance = instance();
        for _ in 0..4 {
            assert!(!fails(&instance, RESET, Chosen::Turn));
        }
        assert!(!instance.answered(Chosen::Turn, Instant::now()));
        assert_eq!(instance.failures(), 0);
        for _ in 0..4 {
            assert!(!fails(&instance, Cause::Status(503), Chosen::Turn));
        }
        assert!(fails(&instance, RESET, Chosen::Turn));
        assert_eq!(instance.out(Instant::now()).unwrap().cause, Some(RESET));
    }

    #[tokio::test(start_paused = true)]
    async fn news_from_before_changes_nothing() {
        let instance = instance();
        assert!(fails(&instance, REFUSED, Chosen::Turn));
        let left = out(&instance);
        assert!(!instance.answered(Chosen::Turn, Instant::now()));
        assert!(!fails(&instance, REFUSED, Chosen::Turn) && !fails(&instance, REFUSED, Chosen::Panic));
        assert_eq!(out(&instance), left);
        assert!(instance.is_out());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_probe_is_followed_by_another() {
        let instance = instance();
        assert!(fails(&instance, REFUSED, Chosen::Turn));
        tokio::time::advance(3 * SECOND).await;
        assert!(instance.try_probe(Instant::now()));
        tokio::time::advance(PROBE_AGAIN_AFTER - Duration::from_millis(1)).await;
        assert!(!instance.try_probe(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(instance.try_probe(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn no_failures_to_count_means_never_out() {
        let (instance, never) = (instance(), Ejection { failures: 0, ..Ejection::default() });
        assert!(!instance.failed(REFUSED, Chosen::Turn, &never));
        assert!(!instance.is_out());
    }

    #[test]
    fn requests_are_counted_until_they_end() {
        let instance = instance();
        let (one, two) = (instance.begin(), instance.begin());
        assert_eq!(instance.in_flight(), 2);
        drop(one);
        drop(two);
        assert_eq!(instance.in_flight(), 0);
    }
}
