//! The state as applied on this node: what is read together was true together.
//!
//! The state is in memory, as a [`Tree`] whose copies cost nothing. Readers take the newest one and read it for as long
//! as they like; they wait for nobody and nobody waits for them. Only the persister, which must not miss a
//! change, excludes the writer, for a moment. That writer is alone: the log is applied in order.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::feed::Feeds;
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::leases::LeasePage;
use crate::persister::{Changed, Unsaved};
use crate::runtime::watch;
use crate::state::{self, Changes, Meta, Tree};
use crate::txn::{Entry, Page, Scan};
use crate::watch::Event;

/// The whole state at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) records: Tree,
    pub(crate) meta: Meta,
    /// Grows when the whole state was replaced.
    replaced: u64,
}

/// How far the state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Index of the last applied entry.
    pub(crate) applied: Option<u64>,
    pub(crate) revision: Revision,
    /// Grows when the whole state was replaced.
    pub(crate) replaced: u64,
}

impl From<&State> for Progress {
    fn from(state: &State) -> Self {
        let applied = state.meta.applied.map(|id| id.index);
        Self { applied, revision: state.meta.revision, replaced: state.replaced }
    }
}

/// The state on this node.
pub(crate) struct View {
    state: ArcSwap<State>,
    /// Held while the state changes.
    unsaved: Mutex<Unsaved>,
    changed: Changed,
    feeds: Feeds,
    progress: watch::Sender<Progress>,
}

impl View {
    /// Begins with a state.
    pub(crate) fn new(records: Tree, meta: Meta) -> Arc<Self> {
        let state = State { records, meta, replaced: 0 };
        Arc::new(Self {
            progress: watch::Sender::new(Progress::from(&state)),
            state: ArcSwap::from_pointee(state),
            unsaved: Mutex::default(),
            changed: Changed::default(),
            feeds: Feeds::default(),
        })
    }

    /// The newest state. It never changes; the next one takes its place.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The entry under a key, and the revision of the state it was read from.
    pub(crate) fn entry(&self, key: &str) -> io::Result<(Option<Entry>, Revision)> {
        let state = self.state.load();
        Ok((state::entry(&state.records, key)?, state.meta.revision))
    }

    /// A page at one revision.
    pub(crate) fn page(&self, range: &Scan) -> io::Result<Page> {
        let state = self.state();
        Ok(Page { revision: state.meta.revision, ..state::page(&state.records, range)? })
    }

    /// The keys of a lease, and the revision of the state they were read from.
    pub(crate) fn keys_of_lease(&self, id: LeaseId) -> io::Result<(Vec<Key>, Revision)> {
        let state = self.state.load();
        Ok((state::keys_of_lease(&state.records, id)?, state.meta.revision))
    }

    /// A page of leases.
    pub(crate) fn leases(&self, after: Option<LeaseId>, limit: usize) -> io::Result<LeasePage> {
        let state = self.state();
        let mut found = state::leases_after(&state.records, after, limit.saturating_add(1))?;
        let more = found.len() > limit;
        found.truncate(limit);
        let leases = found.into_iter().map(|(id, record)| (id, Duration::from_millis(record.ttl_ms))).collect();
        Ok(LeasePage { leases, more, revision: state.meta.revision })
    }

    /// Carries out changes that end at `meta`, and tells watchers; without events, that everything is different.
    pub(crate) fn commit(&self, changes: Changes, meta: Meta, events: Option<Vec<Event>>) {
        let mut unsaved = self.unsaved();
        let before = self.state.load();
        debug_assert!(before.meta.revision <= meta.revision, "the revision only grows");
        let mut records = before.records.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => records.insert(key, value),
                None => drop(records.remove(key)),
            }
        }
        unsaved.add(changes);
        let replaced = before.replaced + u64::from(events.is_none());
        self.publish(State { records, meta, replaced });
        match events {
            // Behind the state: who begins to follow looks at the place in the feed first, then at the state.
            Some(events) => self.feeds.publish(&events, self.progress.borrow().revision),
            None => self.feeds.reset(),
        }
        self.changed.tell(&unsaved);
    }

    /// Puts another state in place of this one.
    pub(crate) fn replace(&self, records: Tree, meta: Meta) {
        let mut unsaved = self.unsaved();
        unsaved.add_everything();
        let replaced = self.state.load().replaced + 1;
        self.publish(State { records, meta, replaced });
        self.feeds.reset();
        self.changed.tell(&unsaved);
    }

    fn publish(&self, state: State) {
        let progress = Progress::from(&state);
        self.state.store(Arc::new(state));
        self.progress.send_replace(progress);
    }

    /// To wait for the state to get somewhere.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// What the persister has yet to save. The state is at rest while it is held.
    pub(crate) fn unsaved(&self) -> MutexGuard<'_, Unsaved> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To wait for something to save.
    pub(crate) fn changed(&self) -> &Changed {
        &self.changed
    }
}
