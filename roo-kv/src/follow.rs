//! Following what happens from any revision on: first from the history in the state, then live.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::feed::{Feed, Next};
use crate::id::Revision;
use crate::runtime::watch;
use crate::state::{self, Past};
use crate::view::{State, View};
use crate::watch::{Event, SharedBatch, WatchError};

/// Bytes of history that one batch is made from.
const PAST_BYTES: usize = 256 << 10;

/// Where a [`Follow`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With one reset batch of what is there.
    Everything,
    /// With what happens next.
    Now,
    /// With what happened at this revision, which may lie ahead.
    Revision(Revision),
}

/// Events as they happen, without gap or repeat, made by [`Store::follow`](crate::Store::follow). It keeps nothing: one that
/// is slow ends with [`WatchError::Behind`]. Dropping it ends it.
pub struct Follow {
    view: Arc<View>,
    feed: Arc<Feed>,
    end: watch::Receiver<u64>,
    position: Position,
    /// Everything up to here was given, or was not asked for.
    delivered: Revision,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// What is there comes next.
    Everything,
    /// The history behind `delivered` comes next.
    Past,
    /// What is at this place of the feed comes next.
    Live(u64),
}

impl Follow {
    pub(crate) fn begin(view: Arc<View>, prefix: &str, since: Since) -> Result<Self, WatchError> {
        let everything = Self::everything(view, prefix);
        let state = everything.view.state();
        let revision = state.meta.revision;
        let delivered = match since {
            Since::Everything => return Ok(everything),
            Since::Now => revision,
            Since::Revision(from) => Revision(from.0.saturating_sub(1)),
        };
        let oldest = state::oldest(&state.records, revision).map_err(|error| unreadable(&error))?;
        if delivered.0 + 1 < oldest.0 {
            return Err(WatchError::Compacted { oldest });
        }
        Ok(Self { position: Position::Past, delivered, ..everything })
    }

    pub(crate) fn everything(view: Arc<View>, prefix: &str) -> Self {
        let feed = view.feeds().join(prefix);
        let end = feed.end();
        Self { view, feed, end, position: Position::Everything, delivered: Revision(0) }
    }

    /// The next batch. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`WatchError`]; the next call begins again with everything, unless the store is closed.
    pub async fn next(&mut self) -> Result<Arc<SharedBatch>, WatchError> {
        loop {
            if let Some(batch) = self.ready().await? {
                return Ok(batch);
            }
            self.changed().await;
        }
    }

    /// The next batch, if it has happened. Does not wait, but lets others run while it reads a long history. Nothing is
    /// lost if the future is dropped.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn ready(&mut self) -> Result<Option<Arc<SharedBatch>>, WatchError> {
        loop {
            match self.step() {
                Ok(None) if self.caught_up().is_some() => return Ok(None),
                Ok(None) => tokio::task::yield_now().await,
                Ok(batch) => return Ok(batch),
                Err(error) => {
                    self.position = Position::Everything;
                    return Err(error);
                }
            }
        }
    }

    /// Waits until there may be another batch. Nothing is lost if the future is dropped.
    pub async fn changed(&mut self) {
        let Position::Live(place) = self.position else { return };
        if matches!(self.feed.at(place), Next::Nothing) {
            // The sender lives as long as the feed, which is held here.
            let feed = &self.feed;
            let there = |end: &u64| *end > place || matches!(feed.at(place), Next::Closed);
            drop(self.end.wait_for(there).await);
        }
    }

    /// A revision up to which everything was given, if nothing more is known now.
    #[must_use]
    pub fn caught_up(&self) -> Option<Revision> {
        let Position::Live(place) = self.position else { return None };
        // Read first: what is published later may be at the place.
        let published = self.view.feeds().published();
        matches!(self.feed.at(place), Next::Nothing).then(|| self.delivered.max(published))
    }

    fn step(&mut self) -> Result<Option<Arc<SharedBatch>>, WatchError> {
        match self.position {
            Position::Everything => {
                let (place, state) = self.moment();
                let revision = state.meta.revision;
                let batch = self.feed.start(revision, || {
                    let entries = state::all(&state.records, &self.feed.prefix)?;
                    let put = |(key, entry)| Event::Put { key, entry, previous: None };
                    Ok(entries.into_iter().map(put).collect())
                });
                let batch = batch.map_err(|error: io::Error| unreadable(&error))?;
                (self.position, self.delivered) = (Position::Live(place), revision);
                Ok(Some(batch))
            }
            Position::Past => self.past(),
            Position::Live(place) => match self.feed.at(place) {
                Next::Batch(batch) => {
                    self.position = Position::Live(place + 1);
                    Ok(self.unseen(batch))
                }
                Next::Nothing => Ok(None),
                Next::Lost => Err(WatchError::Behind { resume: Revision(self.delivered.0 + 1) }),
                Next::Reset => {
                    self.position = Position::Past;
                    Ok(None)
                }
                Next::Closed => Err(WatchError::Closed),
            },
        }
    }

    fn past(&mut self) -> Result<Option<Arc<SharedBatch>>, WatchError> {
        let (place, state) = self.moment();
        let revision = state.meta.revision;
        if self.delivered >= revision {
            self.position = Position::Live(place);
            return Ok(None);
        }
        let from = Revision(self.delivered.0 + 1);
        let past = state::past(&state.records, revision, from, &self.feed.prefix, PAST_BYTES);
        match past.map_err(|error| unreadable(&error))? {
            Past::Compacted { oldest } => Err(WatchError::Compacted { oldest }),
            Past::Events { events, through } => {
                self.delivered = through;
                if through >= revision {
                    self.position = Position::Live(place);
                }
                if events.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Arc::new(SharedBatch::new(false, events, through))))
            }
        }
    }

    /// A place in the feed and a state: what the state does not show is at the place or behind it, since what is handed
    /// to the feeds is in the state before.
    fn moment(&self) -> (u64, Arc<State>) {
        let place = *self.end.borrow();
        (place, self.view.state())
    }

    /// What was not given before of a batch.
    fn unseen(&mut self, batch: Arc<SharedBatch>) -> Option<Arc<SharedBatch>> {
        if batch.revision <= self.delivered {
            return None;
        }
        let delivered = std::mem::replace(&mut self.delivered, batch.revision);
        if batch.events.iter().all(|event| event.revision() > delivered) {
            return Some(batch);
        }
        let unseen: Vec<Event> = batch.events.iter().filter(|event| event.revision() > delivered).cloned().collect();
        (!unseen.is_empty()).then(|| Arc::new(SharedBatch::new(false, unseen, batch.revision)))
    }
}

fn unreadable(error: &io::Error) -> WatchError {
    tracing::error!(%error, "cannot read the state for a watch");
    WatchError::Closed
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { feed, position, delivered, .. } = self;
        let mut debug = f.debug_struct("Follow");
        debug.field("prefix", &feed.prefix).field("position", position).field("delivered", delivered);
        debug.finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "follow_test.rs"]
mod tests;
