//! When leases end: the leader's memory and monotonic clock decide, the log carries it out.
//!
//! Keep-alives are not logged. A new leader knows none of them, so it gives every lease its whole time once more:
//! a lease may live longer than promised, never shorter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::id::LeaseId;
use crate::node::QUORUM_SILENCE_MAX;

/// The leases of one leadership.
#[derive(Default)]
pub(crate) struct LeaseClock(Mutex<Clock>);

#[derive(Default)]
struct Clock {
    /// The term in which this node leads.
    term: Option<u64>,
    /// All leases of that term were taken over; until then they are gathered.
    complete: bool,
    leases: BTreeMap<LeaseId, Running>,
}

struct Running {
    ttl: Duration,
    ends: Instant,
    /// Its end was decided; a keep-alive comes too late.
    ending: bool,
}

impl Running {
    fn new(ttl: Duration, now: Instant) -> Self {
        Self { ttl, ends: now + ttl, ending: false }
    }
}

impl LeaseClock {
    /// Whether the leases of this leadership were taken over.
    pub(crate) fn leads(&self, term: u64) -> bool {
        let clock = self.lock();
        clock.term == Some(term) && clock.complete
    }

    /// Begins a leadership. Leases that are granted from here on are known.
    pub(crate) fn begin(&self, term: u64) {
        *self.lock() = Clock { term: Some(term), ..Clock::default() };
    }

    /// Adds the leases from before: every one lives another whole TTL, and the time for which a leader that was
    /// replaced may not know it and have kept some alive.
    pub(crate) fn take_over(&self, term: u64, leases: impl IntoIterator<Item = (LeaseId, Duration)>, now: Instant) {
        let mut clock = self.lock();
        if clock.term != Some(term) {
            return;
        }
        for (id, ttl) in leases {
            clock.leases.entry(id).or_insert_with(|| Running::new(ttl, now + QUORUM_SILENCE_MAX));
        }
        clock.complete = true;
    }

    /// Ends a leadership.
    pub(crate) fn step_down(&self) {
        *self.lock() = Clock::default();
    }

    /// A lease was granted.
    pub(crate) fn granted(&self, id: LeaseId, ttl: Duration, now: Instant) {
        let mut clock = self.lock();
        if clock.term.is_some() {
            clock.leases.entry(id).or_insert_with(|| Running::new(ttl, now));
        }
    }

    /// Gives a lease another whole TTL; tells the TTL and what is left of it now. `None`: this node does not lead;
    /// `Some(None)`: there is no such lease.
    pub(crate) fn keep_alive(&self, id: LeaseId, now: Instant) -> Option<Option<(Duration, Duration)>> {
        self.find(id, |running| {
            running.ends = now + running.ttl;
            (running.ttl, running.ttl)
        })
    }

    /// The TTL of a lease and what is left of it, never more than its TTL. `None` and `Some(None)` as in
    /// [`keep_alive`](Self::keep_alive).
    pub(crate) fn left(&self, id: LeaseId, now: Instant) -> Option<Option<(Duration, Duration)>> {
        self.find(id, |running| (running.ttl, running.ends.saturating_duration_since(now).min(running.ttl)))
    }

    fn find<T>(&self, id: LeaseId, act: impl FnOnce(&mut Running) -> T) -> Option<Option<T>> {
        let mut clock = self.lock();
        clock.term.filter(|_| clock.complete)?;
        Some(clock.leases.get_mut(&id).filter(|running| !running.ending).map(act))
    }

    /// The leases whose time is over; each is named once.
    pub(crate) fn ended(&self, now: Instant) -> Vec<LeaseId> {
        let mut clock = self.lock();
        let mut ended = Vec::new();
        for (id, running) in &mut clock.leases {
            if !running.ending && running.ends <= now {
                running.ending = true;
                ended.push(*id);
            }
        }
        ended
    }

    /// A lease is gone from the state, or (`gone` false) its end could not be written and is to be tried again.
    pub(crate) fn finished(&self, id: LeaseId, gone: bool) {
        let mut clock = self.lock();
        if gone {
            clock.leases.remove(&id);
        } else if let Some(running) = clock.leases.get_mut(&id) {
            running.ending = false;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Clock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LeaseId = LeaseId(1);
    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn a_lease_ends_once_and_not_before_its_time() {
        let clock = LeaseClock::default();
        let start = Instant::now();
        assert_eq!(clock.keep_alive(ID, start), None);
        clock.begin(1);
        assert_eq!(clock.keep_alive(ID, start), None);
        clock.take_over(1, [(ID, TTL)], start);
        assert!(clock.ended(start + TTL - Duration::from_millis(1)).is_empty());
        assert_eq!(clock.keep_alive(ID, start + TTL / 2), Some(Some((TTL, TTL))));
        assert_eq!(clock.left(ID, start + TTL), Some(Some((TTL, TTL / 2))));
        assert!(clock.ended(start + TTL).is_empty());
        assert_eq!(clock.ended(start + TTL * 2), [ID]);
        assert!(clock.ended(start + TTL * 2).is_empty());
        assert_eq!(clock.keep_alive(ID, start + TTL * 2), Some(None));
        assert_eq!(clock.left(ID, start + TTL * 2), Some(None));
        clock.finished(ID, false);
        assert_eq!(clock.ended(start + TTL * 2), [ID]);
    }

    #[test]
    fn a_new_leader_gives_the_whole_time_again() {
        let clock = LeaseClock::default();
        let start = Instant::now();
        clock.begin(1);
        assert_eq!(clock.keep_alive(ID, start), None);
        clock.take_over(1, [(ID, TTL)], start);
        clock.begin(2);
        clock.take_over(2, [(ID, TTL)], start + TTL * 5);
        assert!(clock.leads(2) && !clock.leads(1));
        // The former leader may have kept it alive until it noticed that it was replaced.
        let ends = start + TTL * 6 + QUORUM_SILENCE_MAX;
        assert!(clock.ended(ends - Duration::from_millis(1)).is_empty());
        assert_eq!(clock.ended(ends), [ID]);
    }
}
