//! Following what happens to the keys under a prefix, from the state applied on this node.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::id::Revision;
use crate::key::Key;
use crate::state;
use crate::txn::Entry;
use crate::view::View;

/// Most events that wait for a slow watcher; then it starts over with a reset.
const PENDING_EVENTS_MAX: usize = 4096;

/// Most bytes of values that wait for a slow watcher.
const PENDING_BYTES_MAX: usize = 8 << 20;

/// One thing that happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written, or (in a reset batch) is there.
    Put {
        /// The key.
        key: Key,
        /// What it is now.
        entry: Entry,
    },
    /// The key was removed.
    Delete {
        /// The key.
        key: Key,
        /// When.
        revision: Revision,
        /// Because its lease ran out, not because somebody removed it.
        expired: bool,
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

    fn weight(&self) -> usize {
        match self {
            Self::Put { key, entry } => key.as_str().len() + entry.value.len(),
            Self::Delete { key, .. } => key.as_str().len(),
        }
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

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The store was shut down or has failed.
    #[error("the store has stopped; no more events will come")]
    Closed,
}

/// A stream of [`Batch`]es, made by [`Store::watch`](crate::Store::watch). Dropping it ends the watch.
pub struct Watch {
    view: Arc<View>,
    queue: Arc<Queue>,
}

impl Watch {
    pub(crate) fn new(view: Arc<View>, prefix: &str) -> Self {
        let queue = view.watchers().add(prefix);
        Self { view, queue }
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
            match self.queue.state() {
                State::Closed => return Err(WatchError::Closed),
                State::Reset => return self.everything().await,
                State::Pending => {
                    if let Some(batch) = self.queue.take() {
                        return Ok(batch);
                    }
                }
                State::Idle => self.queue.changed.notified().await,
            }
        }
    }

    async fn everything(&self) -> Result<Batch, WatchError> {
        let view = Arc::clone(&self.view);
        let queue = Arc::clone(&self.queue);
        // Once begun, the blocking read runs to its end even if this future is dropped; it therefore puts its
        // result into the queue, where the next call finds it.
        let read = tokio::task::spawn_blocking(move || {
            view.read(|engine, progress| match state::all(engine, &queue.prefix) {
                Ok(entries) => queue.begin(entries, progress.revision),
                Err(error) => {
                    tracing::error!(%error, "cannot read the state for a watch");
                    queue.close();
                }
            });
        });
        if read.await.is_err() {
            self.queue.close();
        }
        self.queue.take().ok_or(WatchError::Closed)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("prefix", &self.queue.prefix).finish_non_exhaustive()
    }
}

/// All watchers of a node. Called only while the engine cannot change, which is what makes them gapless.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    queues: Vec<Weak<Queue>>,
    closed: bool,
}

impl Watchers {
    fn add(&self, prefix: &str) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            prefix: prefix.to_owned(),
            pending: Mutex::new(Pending { reset: true, ..Pending::default() }),
            changed: Notify::new(),
        });
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if registry.closed {
            queue.close();
        }
        registry.queues.retain(|queue| queue.strong_count() > 0);
        registry.queues.push(Arc::downgrade(&queue));
        queue
    }

    fn each(&self, act: impl Fn(&Queue)) {
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry.queues.iter().filter_map(Weak::upgrade).for_each(|queue| act(&queue));
    }

    /// Hands events on. The caller holds the engine for writing.
    pub(crate) fn publish(&self, events: Vec<Event>, revision: Revision) {
        if !events.is_empty() {
            self.each(|queue| queue.push(&events, revision));
        }
    }

    /// Everything is different now. The caller holds the engine for writing.
    pub(crate) fn reset(&self) {
        self.each(Queue::start_over);
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.each(Queue::close);
    }
}

struct Queue {
    prefix: String,
    pending: Mutex<Pending>,
    changed: Notify,
}

#[derive(Default)]
struct Pending {
    batches: VecDeque<Batch>,
    events: usize,
    bytes: usize,
    /// What is there must be read anew; until then events need not be kept.
    reset: bool,
    closed: bool,
}

enum State {
    Closed,
    Reset,
    Pending,
    Idle,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        let pending = self.lock();
        if !pending.batches.is_empty() {
            State::Pending
        } else if pending.closed {
            State::Closed
        } else if pending.reset {
            State::Reset
        } else {
            State::Idle
        }
    }

    fn push(&self, events: &[Event], revision: Revision) {
        let mut pending = self.lock();
        if pending.reset || pending.closed {
            return;
        }
        let events: Vec<Event> =
            events.iter().filter(|event| event.key().as_str().starts_with(&self.prefix)).cloned().collect();
        if events.is_empty() {
            return;
        }
        pending.events += events.len();
        pending.bytes += events.iter().map(Event::weight).sum::<usize>();
        if pending.events > PENDING_EVENTS_MAX || pending.bytes > PENDING_BYTES_MAX {
            *pending = Pending { reset: true, ..Pending::default() };
        } else {
            pending.batches.push_back(Batch { reset: false, events, revision });
        }
        drop(pending);
        self.changed.notify_one();
    }

    /// The caller holds the engine for reading: no event can come between.
    fn begin(&self, entries: Vec<(Key, Entry)>, revision: Revision) {
        let events = entries.into_iter().map(|(key, entry)| Event::Put { key, entry }).collect();
        let mut pending = self.lock();
        let closed = pending.closed;
        *pending = Pending { closed, ..Pending::default() };
        pending.batches.push_back(Batch { reset: true, events, revision });
    }

    fn take(&self) -> Option<Batch> {
        let mut pending = self.lock();
        let batch = pending.batches.pop_front()?;
        if !batch.reset {
            pending.events -= batch.events.len();
            pending.bytes -= batch.events.iter().map(Event::weight).sum::<usize>();
        }
        Some(batch)
    }

    fn start_over(&self) {
        let mut pending = self.lock();
        let closed = pending.closed;
        *pending = Pending { reset: true, closed, ..Pending::default() };
        drop(pending);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }
}
