//! Following what happens to the keys under a prefix, from the state applied on this node.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use crate::follow::Follow;
use crate::id::Revision;
use crate::key::Key;
use crate::txn::Entry;
use crate::view::View;

/// In how many forms a batch can be shared: see [`SharedBatch::written`].
pub const FORMS: usize = 4;

/// One thing that happened to one key. New kinds and fields go to the end: the position is the stored form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The key was written, or (in a reset batch) is there.
    Put {
        /// The key.
        key: Key,
        /// What it is now.
        entry: Entry,
        /// What it was before; see [`Event::previous`].
        previous: Option<Entry>,
    },
    /// The key was removed.
    Delete {
        /// The key.
        key: Key,
        /// When.
        revision: Revision,
        /// Because its lease ran out, not because somebody removed it.
        expired: bool,
        /// What it was before; see [`Event::previous`].
        previous: Option<Entry>,
    },
}

impl Event {
    /// The key it happened to.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// When it happened; in a reset batch, when the key was last written.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// What the key was before. `None` if it was not there, in a reset batch, and where so much changed at once that what
    /// was before would take too much room.
    #[must_use]
    pub fn previous(&self) -> Option<&Entry> {
        match self {
            Self::Put { previous, .. } | Self::Delete { previous, .. } => previous.as_ref(),
        }
    }

    /// Roughly the bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let entry = if let Self::Put { entry, .. } = self { entry.weight() } else { 0 };
        self.key().as_str().len() + entry + self.previous().map_or(0, Entry::weight)
    }
}

/// Events in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The events are everything that is there now: forget what was known before.
    pub reset: bool,
    /// What happened, or (after a reset) what is there, by key.
    pub events: Vec<Event>,
    /// The store's revision after these events.
    pub revision: Revision,
}

/// Batches that [`Watch::next_all`] makes one of.
const BATCHES_MAX: usize = 4_096;

impl Batch {
    /// Adds what comes after it.
    fn append(&mut self, later: Batch) {
        self.revision = later.revision;
        if later.reset {
            *self = later;
        } else {
            self.events.extend(later.events);
        }
    }
}

/// A [`Batch`] that all who follow a prefix have in common.
#[derive(Debug)]
pub struct SharedBatch {
    batch: Batch,
    written: [OnceLock<Bytes>; FORMS],
}

impl SharedBatch {
    pub(crate) fn new(reset: bool, events: Vec<Event>, revision: Revision) -> Self {
        Self { batch: Batch { reset, events, revision }, written: Default::default() }
    }

    /// The batch in one of [`FORMS`] written forms, which mean whatever the callers agree on. It is made once for all
    /// that have the batch.
    pub fn written(&self, form: usize, make: impl FnOnce(&Batch) -> Bytes) -> Bytes {
        match self.written.get(form) {
            Some(place) => place.get_or_init(|| make(&self.batch)).clone(),
            None => make(&self.batch),
        }
    }

    pub(crate) fn weight(&self) -> usize {
        self.batch.events.iter().map(Event::weight).sum()
    }

    /// The batch itself, copied only if somebody else has it too.
    pub(crate) fn unshared(self: Arc<Self>) -> Batch {
        Arc::try_unwrap(self).map_or_else(|shared| shared.batch.clone(), |own| own.batch)
    }
}

impl Deref for SharedBatch {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

/// Why no more events come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The store was shut down or has failed.
    #[error("the store has stopped; no more events will come")]
    Closed,
    /// What happened at the revision asked for is no longer kept.
    #[error("what happened that early is no longer kept; the history begins at revision {oldest}")]
    Compacted {
        /// From here on everything is kept, on this node.
        oldest: Revision,
    },
    /// The follower was too slow.
    #[error("the watcher fell behind; it can go on from revision {resume}")]
    Behind {
        /// The first revision that it has not seen whole.
        resume: Revision,
    },
}

/// What is there and then what happens, made by [`Store::watch`](crate::Store::watch): for whoever wants to know the state
/// rather than its history. Dropping it ends it.
#[derive(Debug)]
pub struct Watch(Follow);

impl Watch {
    pub(crate) fn begin(view: Arc<View>, prefix: &str) -> Self {
        Self(Follow::everything(view, prefix))
    }

    /// The next batch: first one with `reset` and what is there, then what happens, without gap or repeat.
    ///
    /// A watcher that falls too far behind gets a fresh reset batch in place of what it missed. Nothing is lost if
    /// the future is dropped.
    ///
    /// # Errors
    /// [`WatchError::Closed`] once the store has stopped.
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            match self.0.next().await {
                Err(WatchError::Compacted { .. } | WatchError::Behind { .. }) => {}
                other => return other.map(SharedBatch::unshared),
            }
        }
    }

    /// As [`Watch::next`], in one piece with what has come since, up to a bound: for whoever has as much to do for one
    /// change as for many.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_all(&mut self) -> Result<Batch, WatchError> {
        let mut all = self.next().await?;
        for _ in 1..BATCHES_MAX {
            // An error comes again with the next call.
            let Some(Ok(batch)) = self.next().now_or_never() else { break };
            all.append(batch);
        }
        Ok(all)
    }
}
