//! The state as applied on this node, for readers: what is read together was true together.
//!
//! Writers (applying the log, installing a snapshot) are excluded while a page is read or a watch begins, so both
//! show exactly one revision. Nothing waits while holding the lock except on the engine itself.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::engine::{Changes, Closed, Engine};
use crate::id::Revision;
use crate::state::{self, META_KEY, Meta};
use crate::txn::{Entry, Page, Scan};
use crate::watch::{Event, Watchers};

/// Engine changes that are written at once when the state is replaced.
const REPLACE_BATCH_BYTES: usize = 1 << 20;

/// How far the state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Index of the last applied entry.
    pub(crate) applied: Option<u64>,
    pub(crate) revision: Revision,
    /// Grows when the whole state was replaced.
    pub(crate) replaced: u64,
}

impl Progress {
    fn of(meta: &Meta, replaced: u64) -> Self {
        Self { applied: meta.applied.map(|id| id.index), revision: meta.revision, replaced }
    }
}

/// The state on this node.
pub(crate) struct View {
    engine: RwLock<Box<dyn Engine>>,
    watchers: Watchers,
    progress: watch::Sender<Progress>,
}

impl View {
    /// Looks at what the engine holds.
    pub(crate) fn new(engine: Box<dyn Engine>) -> io::Result<(Arc<Self>, Meta)> {
        let meta = read_meta(&*engine)?.unwrap_or_default();
        let progress = watch::Sender::new(Progress::of(&meta, 0));
        let view = Self { engine: RwLock::new(engine), watchers: Watchers::default(), progress };
        Ok((Arc::new(view), meta))
    }

    /// Reads with the engine at rest. Blocking, briefly.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&dyn Engine, Progress) -> T) -> T {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let progress = *self.progress.borrow();
        read(&**engine, progress)
    }

    /// The entry under a key.
    pub(crate) fn entry(&self, key: &str) -> io::Result<Option<Entry>> {
        self.read(|engine, _| state::entry(engine, key))
    }

    /// A page at one revision.
    pub(crate) fn page(&self, range: &Scan) -> io::Result<Page> {
        self.read(|engine, progress| {
            let mut page = state::page(engine, range)?;
            page.revision = progress.revision;
            Ok(page)
        })
    }

    /// Writes changes that end at `meta`, and tells watchers.
    pub(crate) fn commit(&self, mut changes: Changes, meta: &Meta, events: Vec<Event>) -> io::Result<()> {
        changes.push((META_KEY.to_vec(), Some(state::encode(meta)?)));
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        engine.write(changes)?;
        debug_assert!(self.progress.borrow().revision <= meta.revision, "the revision only grows");
        self.progress.send_modify(|progress| *progress = Progress::of(meta, progress.replaced));
        self.watchers.publish(events, meta.revision);
        Ok(())
    }

    /// Puts another state in place of this one: `fill` hands over its records, in any order, except for `meta`.
    ///
    /// If it is cut short, the engine has no `meta` and counts as empty.
    pub(crate) fn replace(
        &self,
        meta: &Meta,
        fill: impl FnOnce(&mut dyn FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        clear(&**engine)?;
        let mut pending: Changes = Vec::new();
        let mut bytes = 0;
        fill(&mut |key, value| {
            bytes += key.len() + value.len();
            pending.push((key, Some(value)));
            if bytes >= REPLACE_BATCH_BYTES {
                bytes = 0;
                engine.write(std::mem::take(&mut pending))?;
            }
            Ok(())
        })?;
        pending.push((META_KEY.to_vec(), Some(state::encode(meta)?)));
        engine.write(pending)?;
        engine.flush()?;
        self.progress.send_modify(|progress| *progress = Progress::of(meta, progress.replaced + 1));
        self.watchers.reset();
        Ok(())
    }

    /// To wait for the state to get somewhere.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Ends all watches and closes the engine, so that it can be opened again. Reads fail from here on. Blocking.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.watchers.close();
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let open = std::mem::replace(&mut *engine, Box::new(Closed));
        open.flush()
    }
}

/// The facts about the state in an engine; `None` if it holds no complete state.
pub(crate) fn read_meta(engine: &dyn Engine) -> io::Result<Option<Meta>> {
    engine.get(META_KEY)?.map(|bytes| state::decode(&bytes)).transpose()
}

fn clear(engine: &dyn Engine) -> io::Result<()> {
    // First of all, so that a half-cleared engine is not taken for a state.
    engine.write(vec![(META_KEY.to_vec(), None)])?;
    loop {
        let mut changes: Changes = Vec::new();
        engine.visit(&[], &mut |key, _| {
            changes.push((key.to_vec(), None));
            changes.len() < 10_000
        })?;
        if changes.is_empty() {
            return Ok(());
        }
        engine.write(changes)?;
    }
}
