//! Where nodes were last reached: identity stays, addresses change at any restart.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::disk::Disk;
use crate::durable;
use crate::id::NodeId;
use crate::runtime::blocking;

const VERSION: u8 = 1;
const FILE: &str = "addresses";

/// Most nodes that are remembered.
const NODES_MAX: usize = 4096;

/// A node that was not heard from for this long counts as unreachable.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Node id → last proven address, on disk; and when each node was last heard from, in memory.
pub(crate) struct AddressBook {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pages: Mutex<Pages>,
    /// Held while writing to disk, which must not keep those waiting who only look.
    saving: Mutex<()>,
}

#[derive(Default)]
struct Pages {
    addresses: BTreeMap<u64, String>,
    heard: HashMap<u64, Heard>,
    /// The last entry in the log of each node, as it said.
    stored: HashMap<u64, u64>,
}

/// When something was heard.
#[derive(Clone, Copy)]
struct Heard {
    at: Instant,
    wall: SystemTime,
}

impl Heard {
    fn now() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }

    fn is_recent(&self) -> bool {
        self.at.elapsed() < SILENCE_MAX
    }
}

impl AddressBook {
    /// Reads the book. A damaged one is begun anew: it only saves a search.
    pub(crate) fn load(disk: Arc<dyn Disk>, dir: &Path) -> Arc<Self> {
        let path = dir.join(FILE);
        let addresses = durable::read(&*disk, &path, VERSION).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the address book is not usable; it is begun anew");
            None
        });
        let pages = Pages { addresses: addresses.unwrap_or_default(), ..Pages::default() };
        Arc::new(Self { disk, path, pages: Mutex::new(pages), saving: Mutex::new(()) })
    }

    /// Where the node was last reached.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.lock().addresses.get(&node.0).cloned()
    }

    /// Who was last reached at this address.
    pub(crate) fn node_at(&self, address: &str) -> Option<NodeId> {
        self.lock().addresses.iter().find(|(_, known)| *known == address).map(|(id, _)| NodeId(*id))
    }

    /// The node proved to be at this address. Written to disk in the background if that is news.
    pub(crate) fn learn(self: &Arc<Self>, node: NodeId, address: &str) {
        let mut pages = self.lock();
        pages.heard.insert(node.0, Heard::now());
        let full = pages.addresses.len() >= NODES_MAX && !pages.addresses.contains_key(&node.0);
        if full || pages.addresses.get(&node.0).is_some_and(|known| known == address) {
            return;
        }
        pages.addresses.insert(node.0, address.to_owned());
        drop(pages);
        let book = Arc::clone(self);
        drop(blocking(move || {
            book.save();
            Ok(())
        }));
    }

    /// The node sent or answered something.
    pub(crate) fn heard(&self, node: NodeId) {
        let mut pages = self.lock();
        if pages.heard.len() < NODES_MAX || pages.heard.contains_key(&node.0) {
            pages.heard.insert(node.0, Heard::now());
        }
    }

    /// When the node was last heard from, if it was since this one started.
    pub(crate) fn last_heard(&self, node: NodeId) -> Option<Instant> {
        self.lock().heard.get(&node.0).map(|heard| heard.at)
    }

    /// The same by the clock on the wall, for people.
    pub(crate) fn last_heard_at(&self, node: NodeId) -> Option<SystemTime> {
        self.lock().heard.get(&node.0).map(|heard| heard.wall)
    }

    /// The node said that its log ends there.
    pub(crate) fn has_stored(&self, node: NodeId, index: Option<u64>) {
        let mut pages = self.lock();
        if let Some(index) = index
            && (pages.stored.len() < NODES_MAX || pages.stored.contains_key(&node.0))
        {
            pages.stored.insert(node.0, index);
        }
    }

    /// Where the log of the node ended when it last said so.
    pub(crate) fn stored(&self, node: NodeId) -> Option<u64> {
        self.lock().stored.get(&node.0).copied()
    }

    /// Where those are that were heard from lately.
    pub(crate) fn reachable(&self) -> Vec<String> {
        let pages = self.lock();
        let recent = pages.heard.iter().filter(|(_, heard)| heard.is_recent());
        recent.filter_map(|(id, _)| pages.addresses.get(id).cloned()).collect()
    }

    /// Whether another node than this one is at the address and was heard from lately.
    pub(crate) fn is_taken(&self, address: &str, except: NodeId) -> bool {
        let pages = self.lock();
        let mut there = pages.addresses.iter().filter(|(id, known)| **id != except.0 && *known == address);
        there.any(|(id, _)| pages.heard.get(id).is_some_and(Heard::is_recent))
    }

    /// Whether the node was heard from lately.
    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        self.lock().heard.get(&node.0).is_some_and(Heard::is_recent)
    }

    fn save(&self) {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        // Copied by whoever writes next, so that an older state cannot overwrite a newer one.
        let addresses = self.lock().addresses.clone();
        if let Err(error) = durable::write(&*self.disk, &self.path, VERSION, &addresses) {
            tracing::warn!(path = %self.path.display(), %error, "cannot save the address book");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::disk::RealDisk;

    #[tokio::test]
    async fn the_book_can_be_read_while_it_is_written_and_the_newest_state_stays() {
        let dir = tempfile::tempdir().unwrap();
        let book = AddressBook::load(Arc::new(RealDisk), dir.path());
        let writing = book.saving.lock().unwrap();
        book.learn(NodeId(1), "a:1");
        book.learn(NodeId(1), "b:1");
        book.heard(NodeId(1));
        assert!(book.is_reachable(NodeId(1)));
        assert_eq!(book.address(NodeId(1)).as_deref(), Some("b:1"));
        drop(writing);
        book.save();
        assert_eq!(AddressBook::load(Arc::new(RealDisk), dir.path()).address(NodeId(1)).as_deref(), Some("b:1"));
    }
}
