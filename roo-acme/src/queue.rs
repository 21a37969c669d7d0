//! Which name is next: what is due, what waits for its time, and what waits for a CA's limits. Each change costs as much as
//! finding a place in an ordered tree, however many names there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use jiff::Timestamp;

use crate::limits::registered_domain;
use crate::schedule::Urgency;

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is to be worked on.
    Due(Urgency),
    /// Not before this time; then it is looked at again.
    At(Timestamp),
    /// Nothing is to be done.
    Nowhere,
}

/// Names in their places. New ones are served in turn by registered domain, so that one customer's thousands do not
/// keep the others waiting; renewals come before them.
#[derive(Default)]
pub(crate) struct Queue {
    places: BTreeMap<String, Place>,
    /// What is due, except what is new.
    due: BTreeSet<(Urgency, String)>,
    /// Names without a certificate, by registered domain.
    new: BTreeMap<String, BTreeSet<String>>,
    /// The domain that was served last.
    turn: String,
    wakes: BTreeSet<(Timestamp, String)>,
    /// New names of these domains wait.
    domains_from: BTreeMap<String, Timestamp>,
    /// New names wait.
    new_from: Option<Timestamp>,
    /// Everything waits.
    all_from: Option<Timestamp>,
}

impl Queue {
    /// Puts a name into its place, from wherever it was.
    pub(crate) fn put(&mut self, name: &str, place: Place) {
        let before = match place {
            Place::Nowhere => self.places.remove(name),
            place => self.places.insert(name.to_owned(), place),
        };
        if before == Some(place) {
            return;
        }
        match before {
            Some(Place::Due(Urgency::Missing)) => {
                let domain = registered_domain(name);
                if let Some(names) = self.new.get_mut(domain) {
                    names.remove(name);
                    if names.is_empty() {
                        self.new.remove(domain);
                    }
                }
            }
            Some(Place::Due(urgency)) => drop(self.due.remove(&(urgency, name.to_owned()))),
            Some(Place::At(at)) => drop(self.wakes.remove(&(at, name.to_owned()))),
            Some(Place::Nowhere) | None => {}
        }
        match place {
            Place::Due(Urgency::Missing) => {
                self.new.entry(registered_domain(name).to_owned()).or_default().insert(name.to_owned());
            }
            Place::Due(urgency) => drop(self.due.insert((urgency, name.to_owned()))),
            Place::At(at) => drop(self.wakes.insert((at, name.to_owned()))),
            Place::Nowhere => {}
        }
    }

    /// Names that have a place.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.places.keys()
    }

    /// Names about whose certificates the CA is to be asked.
    pub(crate) fn checks(&self) -> impl Iterator<Item = &String> {
        let checks = self.due.range((Urgency::Check, String::new())..);
        checks.take_while(|(urgency, _)| *urgency == Urgency::Check).map(|(_, name)| name)
    }

    /// Takes out the names whose time has come.
    pub(crate) fn wake(&mut self, now: Timestamp) -> Vec<String> {
        let mut woken = Vec::new();
        while self.wakes.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, name)) = self.wakes.pop_first()
        {
            self.places.remove(&name);
            woken.push(name);
        }
        woken
    }

    /// The most urgent name that is not `busy`; it stays in its place.
    pub(crate) fn peek(&self, now: Timestamp, busy: &BTreeSet<String>) -> Option<&str> {
        let waits = |from: &Option<Timestamp>| from.is_some_and(|from| from > now);
        if waits(&self.all_from) {
            return None;
        }
        let free = |(_, name): &&(Urgency, String)| !busy.contains(name);
        let renewals = self.due.iter().take_while(|(urgency, _)| *urgency < Urgency::Missing);
        let others = || self.due.range((Urgency::Missing, String::new())..);
        let new = || {
            let after = self.new.range::<str, _>((Excluded(self.turn.as_str()), Unbounded));
            let domains = after.chain(self.new.range::<str, _>((Unbounded, Included(self.turn.as_str()))));
            let open = domains.filter(|(domain, _)| self.domains_from.get(*domain).is_none_or(|from| *from <= now));
            open.flat_map(|(_, names)| names).find(|name| !busy.contains(*name)).filter(|_| !waits(&self.new_from))
        };
        let found = renewals.into_iter().find(free).map(|(_, name)| name);
        found.or_else(new).or_else(|| others().find(free).map(|(_, name)| name)).map(String::as_str)
    }

    /// The same, and the turn goes on to the next domain.
    pub(crate) fn next(&mut self, now: Timestamp, busy: &BTreeSet<String>) -> Option<String> {
        let name = self.peek(now, busy)?.to_owned();
        if self.places.get(&name) == Some(&Place::Due(Urgency::Missing)) {
            registered_domain(&name).clone_into(&mut self.turn);
        }
        Some(name)
    }

    /// When something happens by itself, if nothing is due now.
    pub(crate) fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        let waiting = !self.due.is_empty() || !self.new.is_empty();
        let all = self.all_from.filter(|_| waiting);
        let new = self.new_from.filter(|_| !self.new.is_empty());
        let domains = self.domains_from.iter().filter(|(domain, _)| self.new.contains_key(*domain));
        let domain = domains.map(|(_, from)| *from).filter(|from| *from > now).min();
        let holds = [all, new, domain].into_iter().flatten().filter(|at| *at > now).min();
        [wake, holds].into_iter().flatten().min()
    }

    /// Holds everything back; `None` ends that.
    pub(crate) fn hold_all(&mut self, from: Option<Timestamp>) {
        self.all_from = from;
    }

    /// Holds new names back.
    pub(crate) fn hold_new(&mut self, from: Timestamp) {
        self.new_from = Some(from);
    }

    /// Holds new names of the domain of `name` back.
    pub(crate) fn hold_domain(&mut self, name: &str, from: Timestamp, now: Timestamp) {
        self.domains_from.retain(|_, from| *from > now);
        self.domains_from.insert(registered_domain(name).to_owned(), from);
    }

    /// Whether the name is to be worked on.
    pub(crate) fn is_due(&self, name: &str) -> bool {
        matches!(self.places.get(name), Some(Place::Due(_)))
    }

    /// Whether the name is without a certificate, and nobody has asked for it.
    pub(crate) fn is_new(&self, name: &str) -> bool {
        self.places.get(name) == Some(&Place::Due(Urgency::Missing))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Names in the order in which they are served at a time, each once.
    fn served(queue: &mut Queue, second: i64) -> Vec<String> {
        let mut busy = BTreeSet::new();
        let next = std::iter::from_fn(|| {
            let name = queue.next(at(second), &busy)?;
            busy.insert(name.clone());
            Some(name)
        });
        next.collect()
    }

    fn queue(new: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for name in new {
            queue.put(name, Place::Due(Urgency::Missing));
        }
        queue
    }

    #[test]
    fn domains_take_turns_and_renewals_come_first() {
        let mut queue = queue(&["1.many.example", "2.many.example", "3.many.example", "one.example", "a.two.example"]);
        queue.put("old.example", Place::Due(Urgency::Renewal { not_after: at(9) }));
        queue.put("check.example", Place::Due(Urgency::Check));
        let expected = [
            "old.example",
            "1.many.example",
            "one.example",
            "a.two.example",
            "2.many.example",
            "3.many.example",
            "check.example",
        ];
        assert_eq!(served(&mut queue, 0), expected);
    }

    #[test]
    fn what_is_held_back_comes_back_by_itself() {
        let mut queue = queue(&["a.many.example", "one.example"]);
        queue.put("old.example", Place::Due(Urgency::Renewal { not_after: at(9) }));
        queue.hold_domain("b.many.example", at(10), at(0));
        assert_eq!(served(&mut queue, 0), ["old.example", "one.example"]);
        assert_eq!(queue.wakes_at(at(0)), Some(at(10)));
        queue.hold_new(at(5));
        assert_eq!((served(&mut queue, 0), queue.wakes_at(at(0))), (vec!["old.example".to_owned()], Some(at(5))));
        queue.hold_all(Some(at(3)));
        assert_eq!((served(&mut queue, 0).len(), queue.wakes_at(at(0))), (0, Some(at(3))));
        assert_eq!(served(&mut queue, 3), ["old.example"]);
        assert_eq!(served(&mut queue, 10).len(), 3);
        queue.hold_all(None);
        queue.put("later.example", Place::At(at(7)));
        assert_eq!((queue.wake(at(6)), queue.wakes_at(at(6))), (Vec::new(), Some(at(7))));
        assert_eq!(queue.wake(at(7)), ["later.example"]);
        queue.put("one.example", Place::Nowhere);
        assert!(!served(&mut queue, 20).contains(&"one.example".to_owned()));
    }

    #[test]
    fn ten_thousand_names_are_found_without_looking_at_each() {
        let mut queue = Queue::default();
        for number in 0..10_000 {
            queue.put(&format!("{number}.shop{}.example", number % 40), Place::Due(Urgency::Missing));
        }
        let mut domains = BTreeSet::new();
        for _ in 0..40 {
            let name = queue.next(at(0), &BTreeSet::new()).unwrap();
            domains.insert(registered_domain(&name).to_owned());
            queue.put(&name, Place::Nowhere);
        }
        assert_eq!(domains.len(), 40, "each has had its turn");
        assert_eq!(queue.names().count(), 9_960);
    }
}
