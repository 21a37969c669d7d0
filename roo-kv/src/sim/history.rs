//! What clients asked for, what they were told, and what watchers saw.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::{Batch, Event, Key, LeaseId, Revision};

/// What a client wanted.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Put { key: Key, value: Bytes },
    Delete { key: Key },
    Get { key: Key },
}

impl Call {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Get { key } => key,
        }
    }
}

/// What it was told.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The write has this revision; `None`: a delete of nothing.
    Written(Option<Revision>),
    /// The key was last written then, with this value.
    Read(Option<(Revision, Bytes)>),
    /// The write was refused because of when the key was last written.
    Conflict(Option<Revision>),
    /// Surely not done.
    Refused,
    /// May have been done, or will be.
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) call: Call,
    /// Moments are numbered through.
    pub(super) invoked: u64,
    pub(super) returned: Option<(u64, Outcome)>,
}

/// What one watcher got, from its beginning on.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) host: usize,
    pub(super) batches: Vec<Batch>,
}

/// A lease: its last acknowledged keep-alive was sent then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) ttl: Duration,
    pub(super) renewed_ms: u64,
    pub(super) given_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct History {
    moment: u64,
    pub(super) operations: Vec<Operation>,
    pub(super) watched: Vec<Watched>,
    pub(super) leases: BTreeMap<LeaseId, Promise>,
    /// The first time that anybody saw a lease's key expire.
    pub(super) expired: Vec<(LeaseId, u64)>,
    leases_of: BTreeMap<Key, LeaseId>,
}

impl History {
    pub(super) fn invoke(&mut self, call: Call) -> usize {
        self.moment += 1;
        self.operations.push(Operation { call, invoked: self.moment, returned: None });
        self.operations.len() - 1
    }

    pub(super) fn finish(&mut self, operation: usize, outcome: Outcome) {
        self.moment += 1;
        self.operations[operation].returned = Some((self.moment, outcome));
    }

    pub(super) fn begin_watch(&mut self, host: usize) -> usize {
        self.watched.push(Watched { host, batches: Vec::new() });
        self.watched.len() - 1
    }

    pub(super) fn watched(&mut self, watch: usize, batch: Batch, now: u64) {
        for event in &batch.events {
            match event {
                Event::Put { key, entry, .. } => {
                    if let Some(lease) = entry.lease {
                        self.leases_of.insert(key.clone(), lease);
                    }
                }
                Event::Delete { key, expired: true, .. } => {
                    if let Some(lease) = self.leases_of.get(key)
                        && self.expired.iter().all(|(known, _)| known != lease)
                    {
                        self.expired.push((*lease, now));
                    }
                }
                Event::Delete { .. } => {}
            }
        }
        self.watched[watch].batches.push(batch);
    }

    /// All changes by revision, as far as anybody saw them.
    pub(super) fn changes(&self) -> BTreeMap<Revision, Vec<Event>> {
        let mut changes = BTreeMap::new();
        for batch in self.watched.iter().flat_map(|watched| &watched.batches).filter(|batch| !batch.reset) {
            for (revision, events) in by_revision(&batch.events) {
                changes.entry(revision).or_insert(events);
            }
        }
        changes
    }
}

/// Events of a batch, parted.
pub(super) fn by_revision(events: &[Event]) -> BTreeMap<Revision, Vec<Event>> {
    let mut parted: BTreeMap<Revision, Vec<Event>> = BTreeMap::new();
    for event in events {
        parted.entry(event.revision()).or_default().push(event.clone());
    }
    parted
}
