//! Whether a history is linearizable: whether all its operations can be put into one order, each between its call and
//! its return, in which a single copy of the store would have given the same answers (Herlihy and Wing,
//! "Linearizability: a correctness condition for concurrent objects", 1990).
//!
//! Each key is checked by itself, which is enough since linearizability is local (the same paper, section 3.2). The
//! search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of what
//! was reached before ("Testing for linearizability", 2017), on the linked list of events by which
//! Porcupine does it. Three things keep it from growing with the number of pending calls:
//!
//! - Acknowledged writes carry revisions, and take effect in their order: of the open ones only the lowest is tried.
//! - An operation that fits and changes nothing is taken at once: any order with it later is one with it now, too.
//! - A write of unknown outcome that some read saw is one with a revision and without an end. The others are optional,
//!   tried last, those of a kind stand for each other so that only the oldest is tried, and none is tried right after
//!   another, which nobody would notice.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::history::{Action, Expect, Operation, Outcome, Revision, Value};
use crate::register::Register;

/// Memory for what the search reached before it is given up, in bytes.
const REACHED_BYTES_MAX: usize = 1 << 30;

/// Answers that are shown, with the one that does not fit; what had no answer by then is shown before them.
const SHOWN: usize = 24;

/// Says why a history is not linearizable; `Ok` if it is.
///
/// # Errors
/// The key, and the operations up to the first answer that no order explains. A search that takes too long is
/// an error too.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let keys: BTreeSet<usize> = history.iter().map(|operation| operation.key).collect();
    for key in keys {
        let mut operations: Vec<Operation> = history.iter().filter(|operation| operation.key == key).copied().collect();
        operations.sort_by_key(|operation| (operation.called, operation.returned));
        match search(&operations) {
            Some(true) => {}
            Some(false) => return Err(explain(key, &operations)),
            None => return Err(format!("key {key}: the search for an order was given up, its history is too tangled")),
        }
    }
    Ok(())
}

/// Whether there is an order for the operations on one key; `None`: the search took too much.
fn search(operations: &[Operation]) -> Option<bool> {
    Search::new(&calls(operations)).run()
}

/// A call as the search sees it.
struct Call {
    action: Action,
    called: u64,
    /// When it must have taken effect; `None`: it need not.
    returned: Option<u64>,
    /// What it must have done.
    outcome: Outcome,
    /// Its place among the writes whose revision is known.
    rank: Option<usize>,
    /// Whether any other operation names the value that it wrote.
    seen: bool,
}

fn calls(operations: &[Operation]) -> Vec<Call> {
    let found: HashMap<Value, Revision> = operations
        .iter()
        .filter_map(|operation| match operation.outcome {
            Outcome::Found(value, revision) => Some((value, revision)),
            _ => None,
        })
        .collect();
    let expected: HashSet<Value> = operations
        .iter()
        .filter_map(|operation| match operation.action {
            Action::Swap(Expect::Value(value), _) => Some(value),
            _ => None,
        })
        .collect();
    let mut calls: Vec<Call> = operations
        .iter()
        .filter(|operation| operation.outcome != Outcome::Refused)
        .filter(|operation| (operation.action, operation.outcome) != (Action::Get, Outcome::Unknown))
        .map(|operation| {
            let value = operation.action.value();
            let revision = value.and_then(|value| found.get(&value));
            let unknown = operation.outcome == Outcome::Unknown;
            let (outcome, returned) = match revision {
                Some(revision) if unknown => (Outcome::Written(*revision), Some(u64::MAX)),
                _ => (operation.outcome, (!unknown).then_some(operation.returned)),
            };
            let seen = value.is_some_and(|value| expected.contains(&value));
            Call { action: operation.action, called: operation.called, returned, outcome, rank: None, seen }
        })
        .collect();
    let mut writes: Vec<(Revision, usize)> = calls
        .iter()
        .enumerate()
        .filter_map(|(k, call)| match call.outcome {
            Outcome::Written(revision) => Some((revision, k)),
            _ => None,
        })
        .collect();
    writes.sort_unstable();
    for (rank, (_, k)) in writes.into_iter().enumerate() {
        calls[k].rank = Some(rank);
    }
    calls
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    // Calls before returns of the same instant: they may overlap.
    Call(usize),
    Return(usize),
}

/// An operation that was put into the order.
struct Taken {
    event: usize,
    call: usize,
    before: Register,
    /// There is no need to try without it.
    settled: bool,
}

struct Search<'a> {
    calls: &'a [Call],
    events: Vec<Event>,
    /// Where each call's events are.
    places: Vec<(usize, Option<usize>)>,
    /// The events of what is not taken yet, a list in both directions; the last place is its head.
    next: Vec<usize>,
    previous: Vec<usize>,
    taken: Vec<Taken>,
    bits: Vec<u64>,
    reached: HashSet<(Vec<u64>, Register)>,
    /// Calls that must be taken and are not.
    missing: usize,
    /// Writes with a revision that are taken.
    ranked: usize,
    state: Register,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let mut timed: Vec<(u64, Event)> = Vec::new();
        for (k, call) in calls.iter().enumerate() {
            timed.push((call.called, Event::Call(k)));
            timed.extend(call.returned.map(|returned| (returned, Event::Return(k))));
        }
        timed.sort_unstable();
        let events: Vec<Event> = timed.into_iter().map(|(_, event)| event).collect();
        let mut places = vec![(0, None); calls.len()];
        for (place, event) in events.iter().enumerate() {
            match event {
                Event::Call(k) => places[*k].0 = place,
                Event::Return(k) => places[*k].1 = Some(place),
            }
        }
        let head = events.len();
        Self {
            calls,
            places,
            next: (0..head).map(|place| place + 1).chain([0]).collect(),
            previous: [head].into_iter().chain(0..head).collect(),
            events,
            taken: Vec::new(),
            bits: vec![0; calls.len().div_ceil(64)],
            reached: HashSet::new(),
            missing: calls.iter().filter(|call| call.returned.is_some()).count(),
            ranked: 0,
            state: Register::EMPTY,
        }
    }

    fn run(mut self) -> Option<bool> {
        let head = self.events.len();
        let (mut cursor, mut optional) = (self.next[head], false);
        let mut passed = Passed::default();
        let reached_max = REACHED_BYTES_MAX / (64 + 8 * self.bits.len());
        while self.missing > 0 {
            if self.reached.len() > reached_max {
                return None;
            }
            let call = match self.events.get(cursor) {
                Some(Event::Call(call)) => *call,
                // Nothing after a return may come before it: first try what need not have happened, then go back.
                Some(Event::Return(_)) | None if !optional => {
                    (cursor, optional, passed) = (self.next[head], true, Passed::default());
                    continue;
                }
                Some(Event::Return(_)) | None => {
                    loop {
                        let Some(last) = self.give_back() else { return Some(false) };
                        if !last.settled {
                            optional = self.calls[last.call].returned.is_none();
                            cursor = self.next[last.event];
                            passed = Passed::default();
                            if optional {
                                passed.until(&self, last.event);
                            }
                            break;
                        }
                    }
                    continue;
                }
            };
            let is_optional = self.calls[call].returned.is_none();
            let fits = is_optional == optional && !(optional && passed.stands_for(&self.calls[call]));
            if fits && self.take(cursor, call) {
                (cursor, optional, passed) = (self.next[head], false, Passed::default());
            } else {
                cursor = self.next[cursor];
            }
        }
        Some(true)
    }

    /// Puts a call next in the order, if it fits there and that leads anywhere new.
    fn take(&mut self, event: usize, call: usize) -> bool {
        let Call { action, outcome, returned, rank, seen, .. } = self.calls[call];
        if rank.is_some_and(|rank| rank != self.ranked) {
            return false;
        }
        let after = if returned.is_some() {
            self.state.after(action, outcome)
        } else if seen || self.taken.last().is_none_or(|last| self.calls[last.call].returned.is_some()) {
            self.state.after_unknown(action, seen)
        } else {
            None
        };
        let Some(after) = after else { return false };
        let settled = after == self.state && returned.is_some();
        self.bits[call / 64] |= 1 << (call % 64);
        if !self.reached.insert((self.bits.clone(), after)) {
            self.bits[call / 64] &= !(1 << (call % 64));
            return false;
        }
        self.taken.push(Taken { event, call, before: self.state, settled });
        self.state = after;
        self.missing -= usize::from(returned.is_some());
        self.ranked += usize::from(rank.is_some());
        let (called, returned) = self.places[call];
        for place in [Some(called), returned].into_iter().flatten() {
            self.next[self.previous[place]] = self.next[place];
            let next = self.next[place];
            self.previous[next] = self.previous[place];
        }
        true
    }

    /// Takes the last call out of the order again.
    fn give_back(&mut self) -> Option<Taken> {
        let last = self.taken.pop()?;
        let call = &self.calls[last.call];
        self.state = last.before;
        self.bits[last.call / 64] &= !(1 << (last.call % 64));
        self.missing += usize::from(call.returned.is_some());
        self.ranked -= usize::from(call.rank.is_some());
        let (called, returned) = self.places[last.call];
        for place in [returned, Some(called)].into_iter().flatten() {
            self.next[self.previous[place]] = place;
            let next = self.next[place];
            self.previous[next] = place;
        }
        Some(last)
    }
}

/// Which kinds of optional writes have had their turn: one stands for all of its kind.
#[derive(Default)]
struct Passed {
    put: bool,
    delete: bool,
}

impl Passed {
    fn stands_for(&mut self, call: &Call) -> bool {
        match call.action {
            Action::Put(_) if !call.seen => std::mem::replace(&mut self.put, true),
            Action::Delete => std::mem::replace(&mut self.delete, true),
            _ => false,
        }
    }

    /// Notes the optional calls of the list up to a place.
    fn until(&mut self, search: &Search<'_>, last: usize) {
        let mut place = search.next[search.events.len()];
        while place <= last && place < search.events.len() {
            if let Event::Call(call) = search.events[place]
                && search.calls[call].returned.is_none()
            {
                self.stands_for(&search.calls[call]);
            }
            place = search.next[place];
        }
    }
}

/// Shows what happened up to the first answer that can't be explained.
fn explain(key: usize, operations: &[Operation]) -> String {
    let mut ends: Vec<u64> = operations.iter().map(|operation| operation.returned).collect();
    ends.sort_unstable();
    // If something can't be explained, no more can it with what came later.
    let explained = ends.partition_point(|end| search(&until(operations, *end)) != Some(false));
    let end = ends.get(explained).copied().unwrap_or(u64::MAX);
    let (mut answered, open): (Vec<_>, Vec<_>) =
        until(operations, end).into_iter().partition(|operation| operation.returned <= end);
    answered.sort_by_key(|operation| operation.returned);
    let last = &answered[answered.len().saturating_sub(SHOWN)..];
    let text: String = open.iter().chain(last).map(|operation| format!("\n  {operation}")).collect();
    format!("key {key} is not linearizable; the last of these can't be explained:{text}")
}

/// The history as it was known at a time: what had no answer yet is of unknown outcome.
fn until(operations: &[Operation], end: u64) -> Vec<Operation> {
    let begun = operations.iter().filter(|operation| operation.called <= end);
    begun
        .map(|operation| match operation.outcome {
            _ if operation.returned <= end => *operation,
            // A promise that nothing was changed holds whenever it is made.
            Outcome::Refused => *operation,
            _ => Operation { outcome: Outcome::Unknown, ..*operation },
        })
        .collect()
}

#[cfg(test)]
#[path = "linearizability_test.rs"]
mod tests;
