//! Carrying out requests.

use std::io;

use super::layout::{attached_key, attached_of, attached_prefix, entry_key, lease_key};
use super::overlay::Overlay;
use super::record::{LeaseRecord, Meta};
use super::window;
use crate::command::{Command, Replies, Reply, Requests};
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::txn::{Compare, Entry, Expect, Op, OpResult, Test, Txn, TxnOutcome};
use crate::watch::Event;

/// What an entry of the log brought about.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// One for each request.
    pub(crate) replies: Replies,
    /// Everything that happened to keys, in order.
    pub(crate) events: Vec<Event>,
}

/// Carries out the requests of the log entry at `index`.
///
/// # Errors
/// Only if the engine cannot be read; the node must then stop.
pub(crate) fn apply(view: &mut Overlay<'_>, meta: &mut Meta, index: u64, requests: &Requests) -> io::Result<Applied> {
    let mut applied = Applied::default();
    for request in &requests.0 {
        let reply = match window::recall(view, request)? {
            Some(reply) => reply,
            None => {
                let mut step = Step { view, meta, changed: false, events: &mut applied.events };
                let reply = step.run(&request.command)?;
                window::remember(view, index, request, &reply)?;
                reply
            }
        };
        applied.replies.push(reply);
    }
    Ok(applied)
}

/// One request being carried out. All it changes gets the same revision.
struct Step<'a, 'b> {
    view: &'a mut Overlay<'b>,
    meta: &'a mut Meta,
    changed: bool,
    events: &'a mut Vec<Event>,
}

impl Step<'_, '_> {
    fn run(&mut self, command: &Command) -> io::Result<Reply> {
        match command {
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseGrant { ttl_ms } => self.grant(*ttl_ms),
            Command::LeaseRevoke { id } => self.end_lease(*id, false),
            Command::LeaseExpire { id } => self.end_lease(*id, true),
        }
    }

    fn txn(&mut self, txn: &Txn) -> io::Result<Reply> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded &= self.holds(compare)?;
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        // Before anything is written: a transaction happens as a whole or not at all.
        for op in ops {
            if let Op::Put { lease: Some(id), .. } = op
                && self.view.read::<LeaseRecord>(&lease_key(*id))?.is_none()
            {
                return Ok(Reply::LeaseNotFound { id: *id });
            }
        }
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(self.op(op)?);
        }
        Ok(Reply::Txn(TxnOutcome { succeeded, revision: self.meta.revision, results }))
    }

    fn holds(&self, compare: &Compare) -> io::Result<bool> {
        let entry = self.entry(&compare.key)?;
        let entry = entry.as_ref();
        Ok(match &compare.test {
            Test::Expect(Expect::Absent) => entry.is_none(),
            Test::Expect(Expect::Present) => entry.is_some(),
            Test::Expect(Expect::Revision(revision)) => entry.is_some_and(|e| e.mod_revision == *revision),
            Test::Value(value) => entry.is_some_and(|e| e.value == *value),
            Test::Version(version) => entry.map_or(0, |e| e.version) == *version,
            Test::CreateRevision(revision) => entry.is_some_and(|e| e.create_revision == *revision),
            Test::Lease(lease) => entry.is_some_and(|e| e.lease == *lease),
        })
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
                self.attach(key, before.and_then(|e| e.lease), *lease)?;
                self.view.write(entry_key(key.as_str()), &entry)?;
                self.events.push(Event::Put { key: key.clone(), entry });
                Ok(OpResult::Put)
            }
            Op::Delete { key } => Ok(OpResult::Delete { existed: self.delete(key, false)? }),
        }
    }

    fn delete(&mut self, key: &Key, expired: bool) -> io::Result<bool> {
        let Some(before) = self.entry(key)? else { return Ok(false) };
        let revision = self.next_revision();
        self.attach(key, before.lease, None)?;
        self.view.remove(entry_key(key.as_str()));
        self.events.push(Event::Delete { key: key.clone(), revision, expired });
        Ok(true)
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
        for raw in self.view.keys(&attached_prefix(id))? {
            self.delete(&attached_of(&raw)?, expired)?;
        }
        self.view.remove(lease_key(id));
        Ok(Reply::LeaseEnded)
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
