//! What the last look at the schedule found. A look goes through all names, so that one serves many orders.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::schedule::Plan;

/// Names that are due, most urgent first, and when to look again.
#[derive(Default)]
pub(crate) struct Agenda {
    due: VecDeque<String>,
    next: Option<Timestamp>,
    /// Something has changed since the look.
    stale: bool,
    /// Not before: with many names a look takes its time.
    look_from: Option<Instant>,
}

/// Names that one look finds at most.
pub(crate) const DUE_MAX: usize = 1_024;

/// A look counts as this long at least: changes come in swarms.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// Looks take no more than one part in so many of a processor's time.
const LOOK_SHARE: u32 = 20;

impl Agenda {
    /// Something has changed: look soon.
    pub(crate) fn touch(&mut self) {
        self.stale = true;
    }

    /// What was found holds no more.
    pub(crate) fn drop_due(&mut self) {
        self.due.clear();
        self.stale = true;
    }

    /// Looks, if there is reason to and it is time.
    pub(crate) fn look(&mut self, plan: impl FnOnce() -> Plan) {
        let began = Instant::now();
        if (self.stale || self.due.is_empty()) && self.look_from.is_none_or(|from| from <= began) {
            let Plan { due, next, impossible: _ } = plan();
            let took = began.elapsed().max(LOOK_MIN);
            *self = Agenda { due: due.into(), next, stale: false, look_from: Some(began + took * LOOK_SHARE) };
        }
    }

    /// Whether anything is due.
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// The most urgent name that is `still` due: much may have happened since the look.
    pub(crate) fn take(&mut self, still: impl Fn(&str) -> bool) -> Option<String> {
        let found = std::iter::from_fn(|| self.due.pop_front()).find(|name| still(name));
        // A look finds no more than some.
        self.stale |= self.due.is_empty();
        found
    }

    /// How long to sleep at `now` if nothing happens; bounded by `longest`, because the clock may be set and machines
    /// may be suspended.
    pub(crate) fn pause(&self, now: Timestamp, longest: Duration) -> Duration {
        let left = self.next.map(|next| next.duration_since(now));
        let left = left.map_or(longest, |left| Duration::try_from(left).unwrap_or(Duration::ZERO));
        let soon = self.look_from.filter(|_| self.stale).map(|from| from.saturating_duration_since(Instant::now()));
        left.min(soon.unwrap_or(longest)).clamp(Duration::from_millis(10), longest.max(Duration::from_millis(10)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn pause(agenda: &Agenda) -> Duration {
        agenda.pause(Timestamp::now(), LONGEST)
    }

    fn plan(names: &[&str]) -> Plan {
        Plan { due: names.iter().map(|name| (*name).to_owned()).collect(), ..Plan::default() }
    }

    #[test]
    fn one_look_serves_many_orders() {
        let mut agenda = Agenda::default();
        agenda.look(|| plan(&["a", "b", "c"]));
        let still = |name: &str| name != "b";
        assert_eq!(agenda.take(still).as_deref(), Some("a"));
        agenda.look(|| unreachable!("nothing has changed"));
        assert_eq!((agenda.take(still).as_deref(), agenda.take(still)), (Some("c"), None));
        assert!(pause(&agenda) < LONGEST, "there may be more");
        while agenda.is_empty() {
            agenda.look(|| plan(&["d"]));
        }
        agenda.drop_due();
        assert!(agenda.is_empty());
    }

    #[test]
    fn long_looks_are_rare() {
        let mut agenda = Agenda::default();
        agenda.look(|| {
            std::thread::sleep(Duration::from_millis(20));
            plan(&["a"])
        });
        agenda.touch();
        agenda.look(|| unreachable!("it is too soon"));
        assert!(pause(&agenda) > Duration::from_millis(100), "{:?}", pause(&agenda));
        assert!(!agenda.is_empty());
    }
}
