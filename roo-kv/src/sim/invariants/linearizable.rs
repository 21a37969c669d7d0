//! What clients were told is as if one store had carried out one call after the other, each between its beginning and
//! its end.
//!
//! The store numbers its changes, and watchers tell which change has which number. So the order of the writes is known,
//! and what is left to show is that it fits the order in real time and that every read fits into it somewhere: a place
//! for each call, such that a call that began after another ended comes later. Going through the calls by when they
//! began and giving each the first place that it may have finds such places if there are any.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::sim::history::{Call, History, Operation, Outcome};
use crate::{Event, Key, Revision};

/// Between two changes there is room for reads: a change is at an even place, what sees it at the odd one behind it
/// and everything up to the next change of that key.
type Place = u64;

pub(super) fn check(history: &History) -> Result<(), String> {
    let changes = history.changes();
    let keys = Keys::new(&changes);
    let mut operations: Vec<&Operation> = history.operations.iter().filter(|call| call.returned.is_some()).collect();
    operations.sort_by_key(|operation| operation.invoked);
    // The highest place of all calls that ended before some moment.
    let mut ended: BTreeMap<u64, Place> = BTreeMap::new();
    for operation in operations {
        let Some((returned, outcome)) = &operation.returned else { continue };
        let earliest = ended.range(..operation.invoked).next_back().map_or(0, |(_, place)| *place);
        let Some(place) = keys.place(&operation.call, outcome, earliest)? else { continue };
        let before = ended.range(..*returned).next_back().map_or(0, |(_, place)| *place);
        if place > before {
            ended.insert(*returned, place);
            // What ended later at a lower place no longer matters.
            let lower = ended.range(returned + 1..).take_while(|(_, other)| **other <= place);
            let lower: Vec<u64> = lower.map(|(at, _)| *at).collect();
            ended.retain(|at, _| !lower.contains(at));
        }
    }
    Ok(())
}

/// What happened to each key: the value that a change left, if any.
struct Keys<'a> {
    changes: BTreeMap<&'a Key, BTreeMap<Revision, Option<&'a Bytes>>>,
    /// Nobody saw some of the changes, so that it cannot be said when a key was absent.
    gaps: bool,
}

impl<'a> Keys<'a> {
    fn new(all: &'a BTreeMap<Revision, Vec<Event>>) -> Self {
        let mut changes: BTreeMap<&Key, BTreeMap<Revision, Option<&Bytes>>> = BTreeMap::new();
        for (revision, event) in all.iter().flat_map(|(revision, events)| events.iter().map(move |e| (*revision, e))) {
            let value = match event {
                Event::Put { entry, .. } => Some(&entry.value),
                Event::Delete { .. } => None,
            };
            changes.entry(event.key()).or_default().insert(revision, value);
        }
        let gaps = all.keys().zip(1..).any(|(revision, expected)| revision.0 != expected);
        Self { changes, gaps }
    }

    /// The first place for the call that is not before `earliest`; `None` if it says nothing.
    fn place(&self, call: &Call, outcome: &Outcome, earliest: Place) -> Result<Option<Place>, String> {
        let wrong = |what: &str| Err(format!("{call:?} -> {outcome:?}: {what} (not before place {earliest})"));
        let none = BTreeMap::new();
        let changes = self.changes.get(call.key()).unwrap_or(&none);
        match (call, outcome) {
            (_, Outcome::Refused | Outcome::Unknown) => Ok(None),
            (_, Outcome::Written(Some(revision))) => {
                let expected = match call {
                    Call::Put { value, .. } => Some(value),
                    _ => None,
                };
                match changes.get(revision) {
                    Some(value) if *value != expected => return wrong("another value was written"),
                    None if !self.gaps => return wrong("the write is lost"),
                    _ => {}
                }
                let place = 2 * revision.0;
                if place < earliest { wrong("later calls saw the store before it") } else { Ok(Some(place)) }
            }
            (_, Outcome::Read(Some((revision, value)))) => {
                match changes.get(revision) {
                    Some(Some(written)) if *written == value => {}
                    None if self.gaps => {}
                    _ => return wrong("this was never written"),
                }
                self.during(changes, *revision, earliest).map_or_else(|| wrong("it was overwritten before"), Ok)
            }
            (_, Outcome::Conflict(Some(revision))) => {
                self.during(changes, *revision, earliest).map_or_else(|| wrong("it was overwritten before"), Ok)
            }
            (_, Outcome::Read(None) | Outcome::Conflict(None) | Outcome::Written(None)) => {
                if self.gaps {
                    return Ok(None);
                }
                let absent = std::iter::once(Revision(0))
                    .chain(changes.iter().filter(|(_, value)| value.is_none()).map(|(revision, _)| *revision));
                let place = absent.filter_map(|from| self.during(changes, from, earliest).flatten()).min();
                place.map_or_else(|| wrong("the key was there"), |place| Ok(Some(place)))
            }
        }
    }

    /// A place between a change and the next one of the key.
    #[allow(clippy::option_option, reason = "none: there is no such place")]
    fn during(
        &self,
        changes: &BTreeMap<Revision, Option<&Bytes>>,
        revision: Revision,
        earliest: Place,
    ) -> Option<Option<Place>> {
        let place = earliest.max(2 * revision.0 + 1);
        let next = changes.range(Revision(revision.0 + 1)..).next().map(|(next, _)| 2 * next.0);
        next.is_none_or(|next| place < next).then_some(Some(place))
    }
}
