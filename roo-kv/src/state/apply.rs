//! Carrying out requests.

use std::collections::BTreeMap;
use std::io;

use super::condition::holds;
use super::history::Recorder;
use super::layout::{attached_key, attached_of, attached_prefix, entry_key, entry_prefix, key_of, lease_key};
use super::overlay::{Changes, Overlay};
use super::record::{LeaseRecord, Meta};
use super::restore;
use super::tree::Tree;
use super::window::Windows;
use crate::command::{Command, Replies, Reply, Request, Requests, RestoreReply};
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::raft::LogIdForm;
use crate::txn::{
    ENTRY_WEIGHT, Entry, Op, OpResult, PAGE_ENTRIES_MAX, TXN_DELETES_MAX, TXN_RESULT_BYTES_MAX, Txn, TxnOutcome,
};
use crate::watch::Event;

/// Most bytes of what was before that the events of one revision tell.
const PREVIOUS_BYTES_MAX: usize = 8 << 20;

/// What an entry of the log brought about.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// One for each request.
    pub(crate) replies: Replies,
    /// Everything that happened to keys, in order.
    pub(crate) events: Vec<Event>,
    /// A backup has taken the place of everything.
    pub(crate) replaced: bool,
}

/// Carries out log entries, one after the other, on top of a state.
pub(crate) struct Applier<'a> {
    view: Overlay<'a>,
    /// The facts about the state after the last entry; what the caller writes into it counts for the next.
    pub(crate) meta: Meta,
    windows: Windows,
    history: Recorder,
}

impl<'a> Applier<'a> {
    /// On top of these records, which `meta` belongs to.
    pub(crate) fn new(records: &'a Tree, meta: Meta) -> Self {
        Self { view: Overlay::new(records), meta, windows: Windows::default(), history: Recorder::default() }
    }

    /// Carries out the requests of the log entry at `place`.
    ///
    /// # Errors
    /// Only if a record cannot be decoded; the node must then stop.
    pub(crate) fn apply(&mut self, place: &LogIdForm, requests: &Requests) -> io::Result<Applied> {
        let mut applied = Applied::default();
        for request in &*requests.0 {
            let reply = match self.windows.recall(&self.view, request)? {
                Some(reply) => reply,
                None => self.carry_out(place, request, &mut applied)?,
            };
            applied.replies.push(reply);
        }
        Ok(applied)
    }

    fn carry_out(&mut self, place: &LogIdForm, request: &Request, applied: &mut Applied) -> io::Result<Reply> {
        let mut step = Step::new(self, place.term);
        let reply = step.run(&request.command)?;
        let events = step.events;
        if matches!(reply, Reply::Restore(RestoreReply::Done { .. })) {
            applied.replaced = true;
            self.history.forget();
        }
        if !events.is_empty() {
            self.history.record(&mut self.view, self.meta.revision, &events)?;
            applied.events.extend(events);
        }
        self.windows.remember(&mut self.view, place.index, request, &reply)?;
        Ok(reply)
    }

    /// What has to change for that, and the facts that belong to it then.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn finish(mut self) -> io::Result<(Changes, Meta)> {
        self.windows.save(&mut self.view)?;
        self.history.save(&mut self.view)?;
        Ok((self.view.into_changes(), self.meta))
    }
}

/// One request being carried out. All it changes gets the same revision.
struct Step<'a, 'b> {
    view: &'a mut Overlay<'b>,
    meta: &'a mut Meta,
    history: &'a mut Recorder,
    /// In which the entry came into the log.
    term: u64,
    changed: bool,
    /// What ranges may still read.
    range_bytes: usize,
    /// What events may still tell of what was before.
    previous_bytes: usize,
    events: Vec<Event>,
}

impl<'a, 'b> Step<'a, 'b> {
    fn new(applier: &'a mut Applier<'b>, term: u64) -> Self {
        let Applier { view, meta, history, .. } = applier;
        let previous_bytes = PREVIOUS_BYTES_MAX;
        Self { view, meta, history, term, changed: false, range_bytes: 0, previous_bytes, events: Vec::new() }
    }

    fn run(&mut self, command: &Command) -> io::Result<Reply> {
        match command {
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseGrant { ttl_ms } => self.grant(*ttl_ms),
            Command::LeaseRevoke { id } => self.end_lease(*id, false),
            Command::LeaseExpire { id } => self.end_lease(*id, true),
            Command::LeaseTimeOut { term, .. } if *term != self.term => Ok(Reply::LeaseKept),
            Command::LeaseTimeOut { id, .. } => self.end_lease(*id, true),
            Command::RestoreBegin { id, emptiness } => restore::begin(self.view, *id, emptiness).map(Reply::Restore),
            Command::RestorePart { id, number, records } => {
                restore::part(self.view, *id, *number, records).map(Reply::Restore)
            }
            Command::RestoreEnd { id, parts, revision, last_lease, emptiness } => {
                let (which, counters) = ((*id, *parts), (*revision, *last_lease));
                restore::end(self.view, self.meta, which, counters, emptiness).map(Reply::Restore)
            }
            Command::RestoreAbort { id } => restore::abort(self.view, *id).map(Reply::Restore),
            Command::TrimHistory { below } => {
                let oldest = self.history.trim(self.view, *below)?.unwrap_or(*below);
                Ok(Reply::HistoryTrimmed { oldest })
            }
        }
    }

    fn txn(&mut self, txn: &Txn) -> io::Result<Reply> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded &= holds(&compare.test, self.entry(&compare.key)?.as_ref());
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        // Before anything is written: a transaction happens as a whole or not at all.
        if let Some(refusal) = self.refusal(ops)? {
            return Ok(refusal);
        }
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(self.op(op)?);
        }
        Ok(Reply::Txn(TxnOutcome { succeeded, revision: self.meta.revision, results }))
    }

    /// Why these steps may not happen. Sets how much their ranges may read.
    fn refusal(&mut self, ops: &[Op]) -> io::Result<Option<Reply>> {
        let mut written: BTreeMap<&Key, usize> = BTreeMap::new();
        let mut read = 0;
        let mut deleted = 0;
        for op in ops {
            match op {
                Op::Put { lease: Some(id), .. } if self.view.read::<LeaseRecord>(&lease_key(*id))?.is_none() => {
                    return Ok(Some(Reply::LeaseNotFound { id: *id }));
                }
                Op::Put { key, value, .. } => {
                    written.insert(key, ENTRY_WEIGHT + value.len());
                }
                Op::Get { key } => {
                    let found = self.entry(key)?.map_or(0, |entry| entry.weight());
                    read += written.get(key).copied().unwrap_or(found);
                }
                Op::DeletePrefix { prefix } => {
                    deleted += self.view.first_keys(&entry_prefix(prefix), TXN_DELETES_MAX + 1).len();
                }
                Op::Delete { .. } | Op::GetPrefix { .. } => {}
            }
        }
        if deleted > TXN_DELETES_MAX {
            return Ok(Some(Reply::DeletesTooMany));
        }
        if read > TXN_RESULT_BYTES_MAX {
            return Ok(Some(Reply::ReadsTooMuch { bytes: read as u64 }));
        }
        self.range_bytes = TXN_RESULT_BYTES_MAX - read;
        Ok(None)
    }

    fn op(&mut self, op: &Op) -> io::Result<OpResult> {
        match op {
            Op::Get { key } => Ok(OpResult::Get(self.entry(key)?)),
            Op::Put { key, value, lease } => {
                let before = self.entry(key)?;
                let revision = self.next_revision();
                let entry = Entry {
                    value: value.clone(),
                    create_revision: before.as_ref().map_or(revision, |e| e.create_revision),
                    mod_revision: revision,
                    version: before.as_ref().map_or(1, |e| e.version + 1),
                    lease: *lease,
                };
                self.attach(key, before.as_ref().and_then(|e| e.lease), *lease)?;
                self.view.write(entry_key(key.as_str()), &entry)?;
                let previous = before.and_then(|before| self.told(before));
                self.events.push(Event::Put { key: key.clone(), entry, previous });
                Ok(OpResult::Put)
            }
            Op::Delete { key } => Ok(OpResult::Delete { existed: self.delete(key, false)? }),
            Op::GetPrefix { prefix, limit } => self.get_prefix(prefix, *limit as usize),
            Op::DeletePrefix { prefix } => {
                let keys = self.view.keys(&entry_prefix(prefix));
                for raw in &keys {
                    self.delete(&key_of(raw)?, false)?;
                }
                Ok(OpResult::DeletePrefix { deleted: keys.len() as u64 })
            }
        }
    }

    fn get_prefix(&mut self, prefix: &str, limit: usize) -> io::Result<OpResult> {
        // Every entry takes some of the bytes, so no more keys than this can be shown: none are gathered in vain.
        let limit = limit.min(PAGE_ENTRIES_MAX).min(self.range_bytes / ENTRY_WEIGHT);
        let mut keys = self.view.first_keys(&entry_prefix(prefix), limit + 1);
        let mut more = keys.len() > limit;
        keys.truncate(limit);
        let mut entries = Vec::with_capacity(keys.len());
        for raw in &keys {
            let Some(entry) = self.view.read::<Entry>(raw)? else { continue };
            let weight = raw.len() + entry.weight();
            if weight > self.range_bytes {
                more = true;
                break;
            }
            self.range_bytes -= weight;
            entries.push((key_of(raw)?, entry));
        }
        Ok(OpResult::GetPrefix { entries, more })
    }

    fn delete(&mut self, key: &Key, expired: bool) -> io::Result<bool> {
        let Some(before) = self.entry(key)? else { return Ok(false) };
        let revision = self.next_revision();
        self.attach(key, before.lease, None)?;
        self.view.remove(entry_key(key.as_str()));
        let previous = self.told(before);
        self.events.push(Event::Delete { key: key.clone(), revision, expired, previous });
        Ok(true)
    }

    /// What was before, while there is room to tell it.
    fn told(&mut self, before: Entry) -> Option<Entry> {
        self.previous_bytes = self.previous_bytes.checked_sub(before.weight())?;
        Some(before)
    }

    fn attach(&mut self, key: &Key, before: Option<LeaseId>, after: Option<LeaseId>) -> io::Result<()> {
        if before == after {
            return Ok(());
        }
        if let Some(id) = before {
            self.view.remove(attached_key(id, key.as_str()));
        }
        match after {
            Some(id) => self.view.write(attached_key(id, key.as_str()), &()),
            None => Ok(()),
        }
    }

    fn grant(&mut self, ttl_ms: u64) -> io::Result<Reply> {
        self.meta.last_lease += 1;
        let id = LeaseId(self.meta.last_lease);
        self.view.write(lease_key(id), &LeaseRecord { ttl_ms })?;
        Ok(Reply::LeaseGranted { id, ttl_ms })
    }

    fn end_lease(&mut self, id: LeaseId, expired: bool) -> io::Result<Reply> {
        if self.view.read::<LeaseRecord>(&lease_key(id))?.is_none() {
            return Ok(Reply::LeaseNotFound { id });
        }
        for raw in self.view.keys(&attached_prefix(id)) {
            self.delete(&attached_of(&raw)?, expired)?;
        }
        self.view.remove(lease_key(id));
        Ok(Reply::LeaseEndedAt { revision: self.meta.revision })
    }

    fn entry(&self, key: &Key) -> io::Result<Option<Entry>> {
        self.view.read(&entry_key(key.as_str()))
    }

    /// The revision of what this request changes; called only when it does change something.
    fn next_revision(&mut self) -> Revision {
        if !self.changed {
            self.changed = true;
            self.meta.revision.0 += 1;
        }
        self.meta.revision
    }
}
