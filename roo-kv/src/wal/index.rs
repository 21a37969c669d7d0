//! What the log holds, in memory: where each entry is, and the newest entries themselves.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::record::{RawRecord, Record, State};
use super::segment;
use crate::disk::File;
use crate::raft::{EntryForm, LogIdForm};

/// Where an entry's record is. The file can be read even after it was removed.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: Arc<Path>,
    pub(super) file: Arc<dyn File>,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl Place {
    /// Reads the entry.
    pub(super) fn read(&self, expected: LogIdForm) -> io::Result<EntryForm> {
        let mut bytes = vec![0; self.bytes];
        let entry = self
            .file
            .read_exact_at(&mut bytes, self.offset)
            .map_err(|e| e.to_string())
            .and_then(|()| RawRecord::take(&bytes)?.entry());
        match entry {
            Ok(entry) if entry.log_id == expected => Ok(entry),
            Ok(entry) => {
                let fault = format!("entry {} is where {} was", entry.log_id.index, expected.index);
                Err(segment::damaged(&self.path, self.offset, &fault))
            }
            Err(fault) => Err(segment::damaged(&self.path, self.offset, &fault)),
        }
    }
}

/// An entry, or where to find it.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Here(EntryForm),
    On(LogIdForm, Place),
}

#[derive(Debug)]
struct Slot {
    log_id: LogIdForm,
    /// Tells an entry from an earlier one at the same index that is still on its way to the disk.
    ticket: u64,
    /// Roughly what the entry takes in memory, then what it takes on disk.
    bytes: usize,
    entry: Option<EntryForm>,
    /// `None` until it is written.
    place: Option<Place>,
}

/// The log as it will be when all that is on its way is written.
#[derive(Debug)]
pub(super) struct Index {
    state: State,
    slots: VecDeque<Slot>,
    /// Entries before this one are not in memory.
    warm_from: u64,
    warm_bytes: usize,
    warm_bytes_max: usize,
    next_ticket: u64,
}

impl Index {
    /// Of a log whose entries begin after this state.
    pub(super) fn new(state: State, warm_bytes_max: usize) -> Self {
        let warm_from = state.next_index;
        Self { state, slots: VecDeque::new(), warm_from, warm_bytes: 0, warm_bytes_max, next_ticket: 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn last(&self) -> Option<LogIdForm> {
        self.slots.back().map(|slot| slot.log_id).or(self.state.purged)
    }

    /// Index of the first entry that is here, or would be.
    fn first_index(&self) -> u64 {
        self.state.next_index - self.slots.len() as u64
    }

    /// Whether entries are missing between those purged and the first one here.
    pub(super) fn has_hole(&self) -> bool {
        self.first_index() > self.state.purged.map_or(0, |purged| purged.index + 1)
    }

    pub(super) fn set_committed(&mut self, committed: LogIdForm) {
        self.state.committed = self.state.committed.max(Some(committed));
    }

    /// Forgets a hint that does not fit: it may have been written before the entries it speaks of.
    pub(super) fn clamp_committed(&mut self) {
        self.state.committed = self.state.committed.min(self.last());
    }

    /// Adds an entry that is on its way to the disk; returns its ticket.
    ///
    /// # Errors
    /// If it is not the next one.
    pub(super) fn append(&mut self, entry: EntryForm) -> io::Result<u64> {
        self.check_next(entry.log_id).map_err(io::Error::other)?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let bytes = entry.payload.weight();
        self.warm_bytes += bytes;
        self.push(Slot { log_id: entry.log_id, ticket, bytes, entry: Some(entry), place: None });
        self.cool();
        Ok(ticket)
    }

    /// Adds an entry that was found on disk.
    pub(super) fn found(&mut self, log_id: LogIdForm, place: Place) -> Result<(), String> {
        self.check_next(log_id)?;
        let bytes = place.bytes;
        self.push(Slot { log_id, ticket: u64::MAX, bytes, entry: None, place: Some(place) });
        self.warm_from = self.state.next_index;
        Ok(())
    }

    fn check_next(&self, log_id: LogIdForm) -> Result<(), String> {
        let expected = self.state.next_index;
        // An empty log may begin anywhere.
        let is_first = expected == 0 && self.state.purged.is_none();
        if log_id.index == expected || is_first {
            Ok(())
        } else {
            Err(format!("entry {} where {expected} comes next", log_id.index))
        }
    }

    fn push(&mut self, slot: Slot) {
        self.state.next_index = slot.log_id.index + 1;
        self.slots.push_back(slot);
    }

    /// An entry was written; nothing happens if it was dropped meanwhile.
    pub(super) fn written(&mut self, index: u64, ticket: u64, place: Place) {
        let Some(at) = index.checked_sub(self.first_index()) else { return };
        let slot = usize::try_from(at).ok().and_then(|at| self.slots.get_mut(at));
        if let Some(slot) = slot.filter(|slot| slot.ticket == ticket) {
            slot.place = Some(place);
        }
    }

    /// Lets go of the oldest entries in memory while there are too many; those that are not written have to stay.
    pub(super) fn cool(&mut self) {
        while self.warm_bytes > self.warm_bytes_max && self.warm_from < self.state.next_index {
            let at = self.warm_from.saturating_sub(self.first_index()) as usize;
            let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.place.is_some()) else { return };
            if slot.entry.take().is_some() {
                self.warm_bytes -= slot.bytes;
            }
            self.warm_from += 1;
        }
    }

    /// Drops the entries from this index on.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.slots.back().is_some_and(|slot| slot.log_id.index >= from) {
            if let Some(slot) = self.slots.pop_back() {
                self.forget(&slot);
            }
            self.state.next_index -= 1;
        }
        // While the log is read from its beginning, those before the first one here are gone, and will be purged.
        self.state.next_index = self.state.next_index.min(from);
        self.warm_from = self.warm_from.min(self.state.next_index);
    }

    /// Drops the entries up to this one, which need not be here.
    pub(super) fn purge(&mut self, upto: LogIdForm) {
        while self.slots.front().is_some_and(|slot| slot.log_id.index <= upto.index) {
            if let Some(slot) = self.slots.pop_front() {
                self.forget(&slot);
            }
        }
        self.state.purged = self.state.purged.max(Some(upto));
        if self.slots.is_empty() {
            self.state.next_index = self.state.next_index.max(upto.index + 1);
        }
        self.warm_from = self.warm_from.max(self.first_index());
    }

    fn forget(&mut self, slot: &Slot) {
        if slot.entry.is_some() {
            self.warm_bytes -= slot.bytes;
        }
    }

    /// The entries from `from` to before `to`, as long as they are not more than `bytes_max`, but at least one.
    pub(super) fn find(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Found> {
        let first = self.first_index();
        let from = from.max(first);
        let to = to.min(self.state.next_index);
        let mut bytes: usize = 0;
        let wanted = self.slots.range((from - first).min(self.slots.len() as u64) as usize..);
        wanted
            .take(to.saturating_sub(from) as usize)
            .take_while(|slot| {
                let is_wanted = bytes < bytes_max;
                bytes = bytes.saturating_add(slot.bytes);
                is_wanted
            })
            .filter_map(|slot| match (&slot.entry, &slot.place) {
                (Some(entry), _) => Some(Found::Here(entry.clone())),
                (None, Some(place)) => Some(Found::On(slot.log_id, place.clone())),
                (None, None) => None,
            })
            .collect()
    }

    /// Carries out a record that changes the state; entries have their own ways.
    pub(super) fn change(&mut self, record: &Record) {
        match record {
            Record::State(_) | Record::Entry(_) => {}
            Record::Vote(vote) => self.state.vote = Some(*vote),
            Record::Truncate { from } => self.truncate(*from),
            Record::Purge(upto) => self.purge(*upto),
            Record::Committed(committed) => self.set_committed(*committed),
        }
    }
}
