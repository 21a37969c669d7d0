//! Handing on what happens, to all that follow: one ring of batches for each prefix, shared by its followers.
//!
//! A follower is a place in a ring, not a queue: ten thousand on one prefix cost one ring, and one that is slow keeps
//! nothing alive but the batch it is at. What it missed when the ring has moved on is in the history of the state.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::id::Revision;
use crate::runtime::watch;
use crate::watch::{Event, SharedBatch};

/// Most batches that a ring holds.
const RING_BATCHES_MAX: usize = 4096;

/// Most bytes of events that a ring holds, except for its newest batch.
const RING_BYTES_MAX: usize = 8 << 20;

/// All rings of a node.
#[derive(Default)]
pub(crate) struct Feeds {
    registry: Mutex<Registry>,
    /// Everything up to this revision has been handed to the rings since the node runs.
    published: AtomicU64,
}

#[derive(Default)]
struct Registry {
    /// By prefix. Ordered, so that what happens to several happens in the same order each time.
    feeds: BTreeMap<String, Weak<Feed>>,
    /// How many prefixes of each length there are: a key is looked up once for each length.
    lengths: BTreeMap<usize, usize>,
    /// How many feeds may be registered before those without followers are looked for.
    sweep_at: usize,
    closed: bool,
}

impl Feeds {
    /// The ring of a prefix.
    pub(crate) fn join(&self, prefix: &str) -> Arc<Feed> {
        let mut registry = self.lock();
        if let Some(feed) = registry.feeds.get(prefix).and_then(Weak::upgrade) {
            return feed;
        }
        if registry.feeds.len() >= registry.sweep_at {
            registry.sweep();
        }
        let feed = Arc::new(Feed::new(prefix, registry.closed));
        if registry.feeds.insert(prefix.to_owned(), Arc::downgrade(&feed)).is_none() {
            *registry.lengths.entry(prefix.len()).or_default() += 1;
        }
        feed
    }

    /// Hands events on. The state shows them already, and the next ones wait until this is done.
    pub(crate) fn publish(&self, events: &[Event], revision: Revision) {
        if events.is_empty() {
            return;
        }
        let mut of_prefix: BTreeMap<&str, (Arc<Feed>, Vec<Event>)> = BTreeMap::new();
        let registry = self.lock();
        for event in events {
            let key = event.key().as_str();
            for prefix in registry.lengths.keys().map_while(|length| (*length <= key.len()).then(|| key.get(..*length)))
            {
                let Some(prefix) = prefix else { continue };
                let Some(feed) = registry.feeds.get(prefix).and_then(Weak::upgrade) else { continue };
                of_prefix.entry(prefix).or_insert_with(|| (feed, Vec::new())).1.push(event.clone());
            }
        }
        drop(registry);
        for (feed, events) in of_prefix.into_values() {
            feed.push(Arc::new(SharedBatch::new(false, events, revision)));
        }
        self.published.store(revision.0, Ordering::Release);
    }

    /// A revision up to which everything has been handed to the rings.
    pub(crate) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    /// Another state took the place of the one before.
    pub(crate) fn reset(&self) {
        self.each(Feed::reset);
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.each(Feed::close);
    }

    fn each(&self, act: impl Fn(&Feed)) {
        let feeds: Vec<Arc<Feed>> = self.lock().feeds.values().filter_map(Weak::upgrade).collect();
        feeds.iter().for_each(|feed| act(feed));
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn sweep(&mut self) {
        self.feeds.retain(|_, feed| feed.strong_count() > 0);
        self.lengths.clear();
        for prefix in self.feeds.keys() {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        self.sweep_at = 16 + 2 * self.feeds.len();
    }
}

/// The newest batches of one prefix.
pub(crate) struct Feed {
    pub(crate) prefix: String,
    ring: Mutex<Ring>,
    /// The number that the next batch will have; changes wake those who wait.
    end: watch::Sender<u64>,
    /// What the newest follower began with, for others that begin at the same revision.
    start: Mutex<Weak<SharedBatch>>,
}

#[derive(Default)]
struct Ring {
    /// Number of the first batch that is held.
    first: u64,
    batches: VecDeque<Arc<SharedBatch>>,
    bytes: usize,
    /// What comes before this number belongs to a state that was replaced.
    reset_at: u64,
    closed: bool,
}

impl Ring {
    /// The number that the next batch will have.
    fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }
}

/// What is at a place of a ring.
pub(crate) enum Next {
    Batch(Arc<SharedBatch>),
    /// Nothing yet.
    Nothing,
    /// The ring has moved on without the follower.
    Lost,
    /// The state was replaced.
    Reset,
    Closed,
}

impl Feed {
    fn new(prefix: &str, closed: bool) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ring: Mutex::new(Ring { closed, ..Ring::default() }),
            end: watch::Sender::new(0),
            start: Mutex::default(),
        }
    }

    /// To be told of changes; its value is the place behind the newest batch.
    pub(crate) fn end(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// What is at a place.
    pub(crate) fn at(&self, place: u64) -> Next {
        let ring = self.lock();
        if place < ring.reset_at {
            return Next::Reset;
        }
        if place < ring.first {
            return Next::Lost;
        }
        match ring.batches.get(usize::try_from(place - ring.first).unwrap_or(usize::MAX)) {
            Some(batch) => Next::Batch(Arc::clone(batch)),
            None if ring.closed => Next::Closed,
            None => Next::Nothing,
        }
    }

    /// What others began with at this revision, or else what `make` gives.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn start<E>(
        &self,
        revision: Revision,
        make: impl FnOnce() -> Result<Vec<Event>, E>,
    ) -> Result<Arc<SharedBatch>, E> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = start.upgrade().filter(|batch| batch.revision == revision) {
            return Ok(known);
        }
        let batch = Arc::new(SharedBatch::new(true, make()?, revision));
        *start = Arc::downgrade(&batch);
        Ok(batch)
    }

    fn push(&self, batch: Arc<SharedBatch>) {
        let mut ring = self.lock();
        ring.bytes += batch.weight();
        ring.batches.push_back(batch);
        while ring.batches.len() > RING_BATCHES_MAX || (ring.bytes > RING_BYTES_MAX && ring.batches.len() > 1) {
            let Some(oldest) = ring.batches.pop_front() else { break };
            ring.bytes -= oldest.weight();
            ring.first += 1;
        }
        let end = ring.end();
        drop(ring);
        self.end.send_replace(end);
    }

    fn reset(&self) {
        let mut ring = self.lock();
        // One place is left out, so that also who was at the end notices.
        let place = ring.end() + 1;
        *ring = Ring { first: place, reset_at: place, closed: ring.closed, ..Ring::default() };
        drop(ring);
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
        self.end.send_replace(place);
    }

    fn close(&self) {
        let mut ring = self.lock();
        ring.closed = true;
        let end = ring.end();
        drop(ring);
        self.end.send_replace(end);
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn delete(name: &str, revision: u64) -> Event {
        Event::Delete { key: name.parse().unwrap(), revision: Revision(revision), expired: false, previous: None }
    }

    fn keys(next: Next) -> Vec<String> {
        let Next::Batch(batch) = next else { panic!("no batch") };
        batch.events.iter().map(|event| event.key().to_string()).collect()
    }

    #[test]
    fn each_prefix_gets_what_is_under_it() {
        let feeds = Feeds::default();
        let [all, a, ab, other] = ["", "a", "a/b", "é"].map(|prefix| feeds.join(prefix));
        feeds.publish(&[delete("a/b", 1), delete("ü", 1), delete("b", 1)], Revision(1));
        feeds.publish(&[delete("a", 2)], Revision(2));
        assert_eq!(keys(all.at(0)), ["a/b", "ü", "b"]);
        assert_eq!((keys(a.at(0)), keys(a.at(1))), (vec!["a/b".to_owned()], vec!["a".to_owned()]));
        assert_eq!(keys(ab.at(0)), ["a/b"]);
        assert!(matches!((ab.at(1), other.at(0)), (Next::Nothing, Next::Nothing)));
        assert_eq!(feeds.published(), Revision(2));
        assert!(Arc::ptr_eq(&a, &feeds.join("a")));
    }

    #[test]
    fn a_ring_holds_the_newest_and_tells_who_is_lost() {
        let feeds = Feeds::default();
        let feed = feeds.join("");
        for n in 1..=RING_BATCHES_MAX as u64 + 2 {
            feeds.publish(&[delete("a", n)], Revision(n));
        }
        assert!(matches!((feed.at(0), feed.at(1)), (Next::Lost, Next::Lost)));
        assert!(matches!(feed.at(2), Next::Batch(batch) if batch.revision == Revision(3)));
        feeds.reset();
        let end = *feed.end().borrow();
        assert!(matches!((feed.at(end - 1), feed.at(end)), (Next::Reset, Next::Nothing)));
        feeds.publish(&[delete("b", 9000)], Revision(9000));
        assert_eq!(keys(feed.at(end)), ["b"]);
        feeds.close();
        assert_eq!(keys(feed.at(end)), ["b"]);
        assert!(matches!((feed.at(end + 1), feeds.join("new").at(0)), (Next::Closed, Next::Closed)));
    }

    #[test]
    fn feeds_that_nobody_follows_are_forgotten() {
        let feeds = Feeds::default();
        let kept = feeds.join("kept");
        for n in 0..1000 {
            feeds.join(&format!("{n}"));
        }
        assert!(feeds.lock().feeds.len() < 100);
        feeds.publish(&[delete("kept", 1)], Revision(1));
        assert_eq!(keys(kept.at(0)), ["kept"]);
    }
}
