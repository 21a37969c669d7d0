//! Keeps a copy of the state on disk, a little behind, so that a restart need not begin with a snapshot and a long log.
//!
//! The copy follows the state at a distance that is bounded by time and bytes: what is overwritten several times in
//! between is written once. Each step is one atomic batch that ends with the facts about the state it belongs to, so
//! after a crash the copy shows the state of some moment, and the log brings it up to date. Nothing depends on it: a copy
//! that cannot be written or is damaged is thrown away and written anew.
//!
//! It begins with all records of a moment, sorted, and goes on with what each step changed; both are kept in pages, as an
//! engine's work is by the value. Numbers are big-endian, so that they sort.
//!
//! | first byte | rest | value |
//! |---|---|---|
//! | `b` | number of the page | records as of the beginning |
//! | `d` | log index, number of the page | what had changed when the entry at that index was applied |
//! | `m` | | [`Meta`] of the newest step |

mod page;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::page::Pages;
use crate::engine::{Batch, Engine};
use crate::state::{self, Changes, META_KEY, Meta, Tree};
use crate::view::{State, View};

/// How far the copy is behind at most, unless more than [`LAG_BYTES`] change meanwhile or the disk is slower than that.
const LAG: Duration = Duration::from_secs(1);
const LAG_BYTES: usize = 16 << 20;

/// Bytes that are written at once when the copy is begun anew.
const BATCH_BYTES: usize = 1 << 20;

/// So many keys may be noted several times.
const KEYS_UNSORTED_MAX: usize = 1 << 16;

const BEGINNING: u8 = b'b';
const STEP: u8 = b'd';

/// A copy that takes more room than this share of its records is written anew, but not for less than [`ROOM_MIN`]. Pages are compressed,
/// so that there is room for changes behind the beginning.
const ROOM_PERCENT: u64 = 150;
const ROOM_MIN: u64 = 64 << 20;

/// How often its room is looked at.
const LOOK_EVERY_BYTES: usize = 32 << 20;

/// How long the log may take to bring the state up to date at a start, before the copy is seen to.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Before the next attempt after a fault.
const FAULT_PAUSE: Duration = Duration::from_secs(30);

/// What has changed since the copy was last written.
#[derive(Debug, Default)]
pub(crate) struct Unsaved {
    /// Whether there is a persister at all.
    wanted: bool,
    keys: Vec<Vec<u8>>,
    /// The first so many keys are distinct and sorted.
    distinct: usize,
    bytes: usize,
    everything: bool,
    closing: bool,
}

impl Unsaved {
    /// Notes which keys have changed.
    pub(crate) fn add(&mut self, changes: Changes) {
        if !self.wanted {
            return;
        }
        // Also an entry that changes no record moves the place in the log.
        self.bytes += 1;
        for (key, value) in changes {
            self.bytes += key.len() + value.map_or(0, |value| value.len());
            if !self.everything {
                self.keys.push(key);
            }
        }
        if self.keys.len() >= KEYS_UNSORTED_MAX + 2 * self.distinct {
            self.tidy();
        }
    }

    /// Keys that were noted several times are noted once.
    fn tidy(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
        self.distinct = self.keys.len();
    }

    /// Notes that nothing is as it was.
    pub(crate) fn add_everything(&mut self) {
        self.everything = true;
        (self.keys, self.distinct) = (Vec::new(), 0);
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0 && !self.everything
    }

    fn take(&mut self) -> Self {
        let (wanted, closing) = (self.wanted, self.closing);
        std::mem::replace(self, Self { wanted, closing, ..Self::default() })
    }
}

/// Wakes the persister's thread.
#[derive(Default)]
pub(crate) struct Changed(Condvar);

impl Changed {
    pub(crate) fn tell(&self, unsaved: &Unsaved) {
        if unsaved.wanted {
            self.0.notify_one();
        }
    }
}

/// What an engine holds: the state of some moment, or `None` if it holds no whole one.
pub(crate) fn load(engine: &dyn Engine) -> io::Result<Option<(Tree, Meta)>> {
    let mut records = Tree::default();
    let mut meta = None;
    let mut take = |key: &[u8], value: &[u8]| match key.first() {
        Some(&(BEGINNING | STEP)) => page::read(value, |key, value| match value {
            Some(value) => records.insert(key, value),
            None => drop(records.remove(key)),
        }),
        _ if key == META_KEY => state::decode(value).map(|found| meta = Some(found)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the copy is of another format")),
    };
    let mut taken = Ok(());
    engine.visit(&mut |key, value| {
        taken = take(key, value);
        taken.is_ok()
    })?;
    taken.map(|()| meta.map(|meta| (records, meta)))
}

/// Writes the copy.
pub(crate) struct Persister {
    view: Arc<View>,
    engine: Box<dyn Engine>,
    /// What the engine holds. Much of what changes is gone, or as before, by the time of the next save.
    saved: Tree,
    /// Written since the room of the copy was last looked at.
    unlooked: usize,
    /// The last entry of the log at the start.
    recovered_at: Option<u64>,
}

impl Persister {
    /// For an engine that holds the state that the view begins with, or nothing if that is empty.
    pub(crate) fn new(view: Arc<View>, engine: Box<dyn Engine>) -> Self {
        let saved = {
            let mut unsaved = view.unsaved();
            unsaved.wanted = true;
            view.state().records.clone()
        };
        Self { view, engine, saved, unlooked: 0, recovered_at: None }
    }

    /// Writes nothing before the state has applied the log's entry at `index`: to write a copy anew takes as much of the
    /// processors as to recover the log, which is what a start waits for.
    pub(crate) fn after(self, index: Option<u64>) -> Self {
        Self { recovered_at: index, ..self }
    }

    /// Starts its thread.
    pub(crate) fn start(self) -> io::Result<Persisting> {
        let view = Arc::clone(&self.view);
        let thread = std::thread::Builder::new().name("persister".to_owned()).spawn(move || self.run())?;
        Ok(Persisting { view, thread: Mutex::new(Some(thread)) })
    }

    fn run(mut self) {
        self.wait_for_recovery();
        while self.wait() {
            if let Err(error) = self.save() {
                tracing::warn!(%error, "cannot keep the state on disk up to date; it will be written anew");
                let unsaved = self.view.unsaved();
                let waiting = self.view.changed().0.wait_timeout_while(unsaved, FAULT_PAUSE, |u| !u.closing);
                drop(waiting.unwrap_or_else(PoisonError::into_inner));
            }
        }
        if let Err(error) = self.save().and_then(|()| self.engine.flush()) {
            tracing::warn!(%error, "cannot bring the state on disk up to date; the log will do it");
        }
    }

    fn wait_for_recovery(&self) {
        let applied = || self.view.state().meta.applied.map(|applied| applied.index);
        let recovering = |unsaved: &mut Unsaved| applied() < self.recovered_at && !unsaved.closing;
        let unsaved = self.view.unsaved();
        let waiting = self.view.changed().0.wait_timeout_while(unsaved, RECOVERY_MAX, recovering);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until something is worth being saved; false once the store closes.
    fn wait(&self) -> bool {
        let changed = &self.view.changed().0;
        let idle = |unsaved: &mut Unsaved| unsaved.is_empty() && !unsaved.closing;
        let unsaved = changed.wait_while(self.view.unsaved(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |unsaved: &mut Unsaved| unsaved.bytes < LAG_BYTES && !unsaved.closing;
        let (unsaved, _) = changed.wait_timeout_while(unsaved, LAG, gathering).unwrap_or_else(PoisonError::into_inner);
        !unsaved.closing
    }

    /// Brings the copy to where the state is now. After an error everything is written anew the next time. Blocking.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        let (state, unsaved) = {
            // Both under the lock: the keys are exactly those in which this state differs from the copy.
            let mut unsaved = self.view.unsaved();
            (self.view.state(), unsaved.take())
        };
        // The library underneath panics at some faults of the disk.
        let saved = catch_unwind(AssertUnwindSafe(|| self.write(&state, unsaved)))
            .unwrap_or_else(|_| Err(io::Error::other("the database failed")));
        if saved.is_err() {
            self.view.unsaved().add_everything();
        }
        saved
    }

    fn write(&mut self, state: &State, unsaved: Unsaved) -> io::Result<()> {
        if unsaved.is_empty() {
            return Ok(());
        }
        if unsaved.everything || self.is_oversized(state)? {
            self.write_anew(state)?;
        } else {
            self.write_changes(state, unsaved)?;
        }
        self.saved = state.records.clone();
        Ok(())
    }

    fn write_changes(&mut self, state: &State, mut unsaved: Unsaved) -> io::Result<()> {
        unsaved.tidy();
        let mut pages = Pages::default();
        for key in &unsaved.keys {
            let value = state.records.get(key);
            if value != self.saved.get(key) {
                pages.add(key, value)?;
            }
        }
        self.unlooked += pages.bytes();
        let index = state.meta.applied.map_or(0, |applied| applied.index).to_be_bytes();
        let pages = numbered(&[&[STEP], &index[..]].concat(), 0, pages);
        self.write_pages(&pages, Some(&state.meta))
    }

    fn is_oversized(&mut self, state: &State) -> io::Result<bool> {
        if self.unlooked < LOOK_EVERY_BYTES {
            return Ok(false);
        }
        self.unlooked = 0;
        let room = ROOM_MIN.max(state.records.bytes() as u64 * ROOM_PERCENT / 100);
        Ok(self.engine.disk_bytes()? > room)
    }

    /// Until the end of it the copy lacks the facts about the state and counts as none.
    fn write_anew(&mut self, state: &State) -> io::Result<()> {
        self.engine.clear()?;
        let mut pages = Pages::default();
        let mut number = 0;
        for (key, value) in state.records.range(&[]) {
            pages.add(key, Some(value))?;
            if pages.bytes() >= BATCH_BYTES {
                let full = numbered(&[BEGINNING], number, std::mem::take(&mut pages));
                self.write_pages(&full, None)?;
                number += full.len();
            }
        }
        self.write_pages(&numbered(&[BEGINNING], number, pages), Some(&state.meta))
    }

    fn write_pages(&mut self, pages: &[(Vec<u8>, Vec<u8>)], meta: Option<&Meta>) -> io::Result<()> {
        let meta = meta.map(state::encode).transpose()?;
        let pages = pages.iter().map(|(key, page)| (&key[..], Some(&page[..])));
        let batch: Batch<'_> = pages.chain(meta.as_deref().map(|meta| (META_KEY, Some(meta)))).collect();
        self.engine.write(&batch)
    }
}

/// Pages with their keys: `prefix` and a number, counted from `first`.
fn numbered(prefix: &[u8], first: usize, pages: Pages) -> Vec<(Vec<u8>, Vec<u8>)> {
    let key = |number: usize| [prefix, &(number as u64).to_be_bytes()[..]].concat();
    pages.finish().into_iter().zip(first..).map(|(page, number)| (key(number), page)).collect()
}

/// The persister at work.
pub(crate) struct Persisting {
    view: Arc<View>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Persisting {
    /// For a simulation, which saves by itself.
    #[cfg(test)]
    pub(crate) fn without_thread(view: Arc<View>) -> Self {
        Self { view, thread: Mutex::default() }
    }

    /// Saves what is left and closes the engine, so that it can be opened again. Blocking.
    ///
    /// # Errors
    /// If the thread has failed; the log then brings the copy up to date.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.view.unsaved().closing = true;
        self.view.changed().0.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("its thread has panicked")),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Memory, Sled};
    use crate::id::Revision;
    use crate::raft::LogIdForm;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn content(records: &Tree) -> Model {
        records.range(&[]).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    fn at(revision: usize) -> Meta {
        let index = revision as u64;
        let applied = Some(LogIdForm { term: 1, node: 1, index });
        Meta { revision: Revision(index), applied, ..Meta::default() }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Commit(Changes),
        Replace(Model),
        Save,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let record = || (0..12_u8).prop_map(|n| vec![b'k', n]);
        let value = || proptest::collection::vec(any::<u8>(), 0..4);
        let changes = proptest::collection::vec((record(), proptest::option::weighted(0.7, value())), 0..5);
        let model = proptest::collection::btree_map(record(), value(), 0..8);
        let step = prop_oneof![
            6 => changes.prop_map(Step::Commit),
            1 => model.prop_map(Step::Replace),
            3 => Just(Step::Save),
        ];
        proptest::collection::vec(step, 1..60)
    }

    fn take(model: &mut Model, changes: &Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => drop(model.insert(key.clone(), value.clone())),
                None => drop(model.remove(key)),
            }
        }
    }

    fn tree(model: &Model) -> Tree {
        let mut tree = Tree::default();
        model.iter().for_each(|(key, value)| tree.insert(key, value));
        tree
    }

    proptest! {
        #[test]
        fn after_a_crash_the_copy_is_of_one_moment_and_what_follows_brings_it_up_to_date(
            steps in steps(), crash_after in 0..40_usize,
        ) {
            let engine = Memory::default();
            let view = View::new(Tree::default(), Meta::default());
            let mut persister = Persister::new(Arc::clone(&view), Box::new(engine.clone()));
            engine.fail_after(Some(crash_after));
            // The state at each revision, as the log would have it.
            let mut history = vec![Model::new()];
            let mut saved = None;
            for step in &steps {
                let mut now = history[history.len() - 1].clone();
                match step {
                    Step::Commit(changes) => {
                        take(&mut now, changes);
                        view.commit(changes.clone(), at(history.len()), Some(Vec::new()));
                        history.push(now);
                    }
                    Step::Replace(model) => {
                        view.replace(tree(model), at(history.len()));
                        history.push(model.clone());
                    }
                    Step::Save => if persister.save().is_ok() { saved = Some(history.len() - 1) } else { break },
                }
            }
            prop_assert_eq!(&content(&view.state().records), &history[view.state().meta.revision.0 as usize]);

            // Power comes back; what the copy shows is where a restart begins.
            engine.fail_after(None);
            let loaded = load(&engine).unwrap();
            let began_anew = steps.iter().any(|step| matches!(step, Step::Replace(_)));
            prop_assert!(loaded.is_some() || saved.unwrap_or(0) == 0 || began_anew);
            let (records, meta) = loaded.unwrap_or_default();
            let mut now = content(&records);
            prop_assert_eq!(&now, &history[meta.revision.0 as usize]);
            let view = View::new(records, meta.clone());
            let mut persister = Persister::new(Arc::clone(&view), Box::new(engine.clone()));
            for (revision, goal) in history.iter().enumerate().skip(meta.revision.0 as usize + 1) {
                let gone = now.keys().filter(|key| !goal.contains_key(*key)).map(|key| (key.clone(), None));
                let there = goal.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
                view.commit(gone.chain(there).collect(), at(revision), Some(Vec::new()));
                now = goal.clone();
            }
            persister.save().unwrap();
            prop_assert_eq!(&content(&view.state().records), &history[history.len() - 1]);
            let (records, meta) = load(&engine).unwrap().unwrap_or_default();
            prop_assert_eq!(&content(&records), &now);
            prop_assert_eq!(meta.revision.0 as usize, history.len() - 1);
        }
    }

    #[test]
    fn after_a_fault_the_copy_is_written_anew() {
        let engine = Memory::default();
        let view = View::new(Tree::default(), Meta::default());
        let mut persister = Persister::new(Arc::clone(&view), Box::new(engine.clone()));
        view.commit(vec![(b"a".to_vec(), Some(b"1".to_vec()))], at(1), Some(Vec::new()));
        engine.fail_after(Some(0));
        persister.save().unwrap_err();
        view.commit(vec![(b"b".to_vec(), Some(b"2".to_vec()))], at(2), Some(Vec::new()));
        engine.fail_after(None);
        persister.save().unwrap();
        let (records, meta) = load(&engine).unwrap().unwrap();
        assert_eq!((content(&records).len(), meta.revision), (2, Revision(2)));
    }

    #[test]
    fn nothing_is_written_while_the_log_is_recovered() {
        let view = View::new(Tree::default(), Meta::default());
        let persister = Persister::new(Arc::clone(&view), Box::new(Memory::default())).after(Some(5));
        let waiting = std::thread::spawn(move || {
            persister.wait_for_recovery();
            persister.view.state().meta.applied.map(|applied| applied.index)
        });
        for index in 1..=5 {
            let applied = Some(LogIdForm { term: 1, node: 1, index });
            let meta = Meta { applied, ..at(index as usize) };
            view.commit(vec![(b"k".to_vec(), Some(vec![index as u8]))], meta, Some(Vec::new()));
        }
        assert_eq!(waiting.join().unwrap(), Some(5));
    }

    #[test]
    fn an_orderly_end_leaves_everything_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let view = View::new(Tree::default(), Meta::default());
        let engine = Sled::open(dir.path()).unwrap();
        let persisting = Persister::new(Arc::clone(&view), Box::new(engine)).start().unwrap();
        for revision in 1..100 {
            view.commit(vec![(vec![revision as u8], Some(b"v".to_vec()))], at(revision), Some(Vec::new()));
        }
        persisting.finish().unwrap();
        let (records, meta) = load(&Sled::open(dir.path()).unwrap()).unwrap().unwrap();
        assert_eq!((content(&records).len(), meta.revision), (99, Revision(99)));
    }

    #[test]
    fn a_copy_that_takes_too_much_room_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let view = View::new(Tree::default(), Meta::default());
        let engine = Sled::open(dir.path()).unwrap();
        let mut persister = Persister::new(Arc::clone(&view), Box::new(engine));
        // The database keeps far more than the few keys that are left.
        for revision in 1..=300 {
            let mut random = fastrand::Rng::with_seed(revision as u64);
            let mut value = || {
                let mut value = vec![0; 32 << 10];
                random.fill(&mut value);
                Some(value)
            };
            let changes = (0..16).map(|n| (vec![n], value())).collect();
            view.commit(changes, at(revision), Some(Vec::new()));
            persister.save().unwrap();
        }
        let live = view.state().records.bytes() as u64;
        assert!(persister.engine.disk_bytes().unwrap() <= ROOM_MIN + LOOK_EVERY_BYTES as u64 + live);
        drop(persister);
        let (records, _) = load(&Sled::open(dir.path()).unwrap()).unwrap().unwrap();
        assert_eq!(content(&records), content(&view.state().records));
    }
}
