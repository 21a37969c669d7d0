//! What happened lately, for watchers that go on where they left off.
//!
//! Every revision has one record with its events, from the oldest that is kept to the newest. Being part of the state,
//! the history is the same on all nodes, goes into snapshots, and is there after a restart. It is bounded by count and
//! by bytes when it is written, and by age through the log: the state machine knows no clock.

use std::io;

use serde::{Deserialize, Serialize};

use super::layout::{HISTORY_EXTENT_KEY, HISTORY_PREFIX, history_key, history_revision};
use super::overlay::Overlay;
use super::record::decode;
use super::tree::Tree;
use crate::id::Revision;
use crate::watch::Event;

/// Most revisions that are kept.
const REVISIONS_MAX: u64 = 100_000;

/// Most bytes of events that are kept.
const BYTES_MAX: u64 = 32 << 20;

/// Most records that one command removes, so that none takes long.
const TRIMMED_AT_ONCE: u64 = 5_000;

/// Which part of the history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Extent {
    /// Everything that happened from this revision on is there.
    oldest: Revision,
    newest: Revision,
    /// Of all events, by [`Event::weight`].
    bytes: u64,
}

/// Writes the history.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// As it was read or left by the last change; `None` in it: there is no history.
    extent: Option<Option<Extent>>,
}

impl Recorder {
    /// Adds what happened at a revision and drops what is too much then.
    pub(super) fn record(&mut self, view: &mut Overlay<'_>, revision: Revision, events: &[Event]) -> io::Result<()> {
        self.record_within(view, revision, events, REVISIONS_MAX, BYTES_MAX)
    }

    fn record_within(
        &mut self,
        view: &mut Overlay<'_>,
        revision: Revision,
        events: &[Event],
        revisions_max: u64,
        bytes_max: u64,
    ) -> io::Result<()> {
        let fresh = Extent { oldest: revision, newest: revision, bytes: 0 };
        let mut extent = match self.extent(view)? {
            Some(extent) if extent.newest.0 + 1 == revision.0 => Extent { newest: revision, ..extent },
            Some(_) => {
                // The counter has jumped: what was before does not lead up to here.
                for key in view.keys(HISTORY_PREFIX) {
                    view.remove(key);
                }
                fresh
            }
            None => fresh,
        };
        view.write(history_key(revision), &events)?;
        extent.bytes += weight(events);
        while extent.oldest <= revision && (revision.0 - extent.oldest.0 >= revisions_max || extent.bytes > bytes_max) {
            drop_oldest(view, &mut extent)?;
        }
        self.extent = Some(Some(extent));
        Ok(())
    }

    /// Drops what happened before a revision, as much as one command may. Returns what is the oldest then, or would be
    /// the next to be written.
    pub(super) fn trim(&mut self, view: &mut Overlay<'_>, below: Revision) -> io::Result<Option<Revision>> {
        let Some(mut extent) = self.extent(view)? else { return Ok(None) };
        let end = below.min(Revision(extent.newest.0 + 1)).min(Revision(extent.oldest.0 + TRIMMED_AT_ONCE));
        while extent.oldest < end {
            drop_oldest(view, &mut extent)?;
        }
        self.extent = Some(Some(extent));
        Ok(Some(extent.oldest))
    }

    /// What is in the view has been replaced.
    pub(super) fn forget(&mut self) {
        self.extent = None;
    }

    /// Puts what has changed into the view.
    pub(super) fn save(&mut self, view: &mut Overlay<'_>) -> io::Result<()> {
        match self.extent.take() {
            Some(Some(extent)) => view.write(HISTORY_EXTENT_KEY.to_vec(), &extent),
            Some(None) | None => Ok(()),
        }
    }

    fn extent(&mut self, view: &Overlay<'_>) -> io::Result<Option<Extent>> {
        if self.extent.is_none() {
            self.extent = Some(view.read(HISTORY_EXTENT_KEY)?);
        }
        Ok(self.extent.flatten())
    }
}

fn drop_oldest(view: &mut Overlay<'_>, extent: &mut Extent) -> io::Result<()> {
    let key = history_key(extent.oldest);
    let events: Vec<Event> = view.read(&key)?.unwrap_or_default();
    extent.bytes = extent.bytes.saturating_sub(weight(&events));
    extent.oldest.0 += 1;
    view.remove(key);
    Ok(())
}

fn weight(events: &[Event]) -> u64 {
    events.iter().map(Event::weight).sum::<usize>() as u64
}

/// A part of the history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// What was asked for is gone; the history begins at this revision.
    Compacted { oldest: Revision },
    /// What happened to keys under the prefix up to a revision, in order.
    Events { events: Vec<Event>, through: Revision },
}

/// The oldest revision whose events are kept, if the store is at `revision`.
pub(crate) fn oldest(records: &Tree, revision: Revision) -> io::Result<Revision> {
    let extent: Option<Extent> = records.get(HISTORY_EXTENT_KEY).map(decode).transpose()?;
    // A history that does not lead up to the state is none.
    let extent = extent.filter(|extent| extent.newest == revision);
    Ok(extent.map_or(Revision(revision.0 + 1), |extent| extent.oldest))
}

/// What happened from a revision on, up to `revision`, which is where the store is, or until `bytes` are read.
pub(crate) fn past(records: &Tree, revision: Revision, from: Revision, prefix: &str, bytes: usize) -> io::Result<Past> {
    let oldest = oldest(records, revision)?;
    if from < oldest {
        return Ok(Past::Compacted { oldest });
    }
    let mut found = Vec::new();
    let mut read = 0;
    for (key, record) in records.range(&history_key(from)).take_while(|(key, _)| key.starts_with(HISTORY_PREFIX)) {
        read += record.len();
        let events: Vec<Event> = decode(record)?;
        found.extend(events.into_iter().filter(|event| event.key().as_str().starts_with(prefix)));
        if read >= bytes {
            return Ok(Past::Events { events: found, through: history_revision(key)? });
        }
    }
    Ok(Past::Events { events: found, through: revision })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(revision: u64, name: &str) -> Event {
        Event::Delete { key: name.parse().unwrap(), revision: Revision(revision), expired: false, previous: None }
    }

    #[derive(Default)]
    struct History(Tree);

    impl History {
        fn change<T>(&mut self, act: impl FnOnce(&mut Overlay<'_>) -> io::Result<T>) -> T {
            let mut view = Overlay::new(&self.0);
            let result = act(&mut view).unwrap();
            for (key, value) in view.into_changes() {
                match value {
                    Some(value) => self.0.insert(&key, &value),
                    None => drop(self.0.remove(&key)),
                }
            }
            result
        }

        fn record(&mut self, revision: u64, name: &str, revisions_max: u64, bytes_max: u64) {
            let events = [event(revision, name)];
            self.change(|view| {
                let mut recorder = Recorder::default();
                recorder.record_within(view, Revision(revision), &events, revisions_max, bytes_max)?;
                recorder.save(view)
            });
        }

        fn records(&self) -> usize {
            self.0.prefix(HISTORY_PREFIX).count()
        }
    }

    #[test]
    fn it_is_bounded_by_count_and_by_bytes() {
        let mut history = History::default();
        for revision in 1..=10 {
            history.record(revision, "name", 4, 1000);
        }
        assert_eq!((oldest(&history.0, Revision(10)).unwrap(), history.records()), (Revision(7), 4));
        for revision in 11..=20 {
            history.record(revision, "name", 100, 12);
        }
        assert_eq!((oldest(&history.0, Revision(20)).unwrap(), history.records()), (Revision(18), 3));
        // What is too large by itself leaves nothing, and the next begins anew.
        history.record(21, "a-long-name-of-a-key", 100, 12);
        assert_eq!((oldest(&history.0, Revision(21)).unwrap(), history.records()), (Revision(22), 0));
        history.record(22, "name", 100, 12);
        assert_eq!((oldest(&history.0, Revision(22)).unwrap(), history.records()), (Revision(22), 1));
    }

    #[test]
    fn it_is_read_in_parts_without_gap_or_repeat() {
        let mut history = History::default();
        for revision in 1..=50 {
            history.record(revision, if revision % 2 == 0 { "even" } else { "odd" }, 40, 1000);
        }
        let now = Revision(50);
        assert_eq!(past(&history.0, now, Revision(10), "", 1).unwrap(), Past::Compacted { oldest: Revision(11) });
        for (prefix, expected) in [("", (11..=50).collect::<Vec<u64>>()), ("e", (12..=50).step_by(2).collect())] {
            let (mut from, mut seen) = (Revision(11), Vec::new());
            while from <= now {
                let Past::Events { events, through } = past(&history.0, now, from, prefix, 30).unwrap() else {
                    panic!()
                };
                seen.extend(events.iter().map(|event| event.revision().0));
                from = Revision(through.0 + 1);
            }
            assert_eq!(seen, expected, "{prefix}");
        }
        let ahead = past(&history.0, now, Revision(51), "", 30).unwrap();
        assert_eq!(ahead, Past::Events { events: vec![], through: now });
    }

    #[test]
    fn what_does_not_lead_up_to_the_state_counts_for_nothing() {
        let mut history = History::default();
        history.record(1, "a", 10, 1000);
        assert_eq!(oldest(&history.0, Revision(7)).unwrap(), Revision(8));
        history.record(8, "a", 10, 1000);
        assert_eq!((oldest(&history.0, Revision(8)).unwrap(), history.records()), (Revision(8), 1));
    }
}
