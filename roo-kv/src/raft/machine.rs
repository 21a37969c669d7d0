//! The state machine as openraft drives it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::form::{LogIdForm, StoredMembershipForm};
use super::{LogEntry, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::command::Replies;
use crate::disk::is_full;
use crate::runtime::blocking;
use crate::snapshot::{LogMeter, Shelf, SnapshotFile, SnapshotHeader};
use crate::state::{Applier, Tree};
use crate::view::{State, View};

/// Entries that are applied together, unless their requests are more than [`BATCH_REQUESTS_MAX`]. Both keep the time small in
/// which a batch occupies a worker.
const BATCH_ENTRIES_MAX: usize = 256;
const BATCH_REQUESTS_MAX: usize = 1024;

/// Between attempts at a snapshot on a disk that is full.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

type Work = (LogEntry, Option<ApplyResponder<Types>>);

/// Applies the log to the view and takes snapshots of it.
pub(crate) struct Machine {
    view: Arc<View>,
    shelf: Arc<Shelf>,
    meter: Arc<LogMeter>,
}

impl Machine {
    pub(crate) fn new(view: Arc<View>, shelf: Arc<Shelf>, meter: Arc<LogMeter>) -> Self {
        Self { view, shelf, meter }
    }

    fn apply_batch(&self, batch: Vec<Work>) -> io::Result<()> {
        let (entries, responders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        for entry in &entries {
            self.meter.applied(entry.log_id.index, weight(entry));
        }
        let replies = apply_entries(&self.view, entries)?;
        for (responder, replies) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }
}

fn apply_entries(view: &View, entries: Vec<LogEntry>) -> io::Result<Vec<Replies>> {
    let mut all_replies = Vec::with_capacity(entries.len());
    // Only this machine writes, one batch after the other, so what is read here cannot change before the commit.
    let state = view.state();
    let mut applier = Applier::new(&state.records, state.meta.clone());
    let mut events = Some(Vec::new());
    for entry in entries {
        let log_id = LogIdForm::from(&entry.log_id);
        debug_assert!(applier.meta.applied.is_none_or(|applied| applied.index < log_id.index), "entries come in order");
        let mut replies = Replies::new();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(requests) => {
                let applied = applier.apply(&log_id, &requests)?;
                replies = applied.replies;
                match &mut events {
                    _ if applied.replaced => events = None,
                    Some(events) => events.extend(applied.events),
                    None => {}
                }
            }
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership);
                applier.meta.membership = StoredMembershipForm::from(&stored);
            }
        }
        applier.meta.applied = Some(log_id);
        all_replies.push(replies);
    }
    let (changes, meta) = applier.finish()?;
    view.commit(changes, meta, events);
    Ok(all_replies)
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.view.state();
        let membership = state.meta.membership.clone().try_into().map_err(io::Error::other)?;
        Ok((state.meta.applied.map(LogId::from), membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        // It is asked again after its end, when the last batch was applied.
        let mut entries = entries.fuse();
        let mut batch: Vec<Work> = Vec::new();
        let mut requests = 0;
        loop {
            // What is ready goes into one batch; nobody waits for a batch to fill.
            let ready = if batch.is_empty() { entries.next().await } else { entries.next().now_or_never().flatten() };
            match ready {
                Some(work) => {
                    let work = work?;
                    if let EntryPayload::Normal(carried) = &work.0.payload {
                        requests += carried.0.len();
                    }
                    batch.push(work);
                }
                None if batch.is_empty() => return Ok(()),
                None => self.apply_batch(std::mem::take(&mut batch))?,
            }
            if batch.len() >= BATCH_ENTRIES_MAX || requests >= BATCH_REQUESTS_MAX {
                requests = 0;
                self.apply_batch(std::mem::take(&mut batch))?;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shelf: Arc::clone(&self.shelf), state: self.view.state() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let view = Arc::clone(&self.view);
        let shelf = Arc::clone(&self.shelf);
        let expected = meta.last_log_id.as_ref().map(LogIdForm::from);
        blocking(move || {
            // Reads go on in the state from before until the new one takes its place as a whole.
            let mut records = Tree::default();
            let header = snapshot.read(&mut |key, value| records.insert(key, value))?;
            if header.meta.applied != expected {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not the one announced"));
            }
            // Durable before the state is touched: it is what the state is rebuilt from if this is cut short.
            shelf.put(&snapshot, &header)?;
            view.replace(records, header.meta);
            Ok(())
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.shelf.newest().map(|(header, file)| announced(&header, file)).transpose()
    }
}

/// Roughly the bytes of an entry in the log.
fn weight(entry: &LogEntry) -> u64 {
    const OVERHEAD: usize = 64;
    let carried = match &entry.payload {
        EntryPayload::Normal(requests) => requests.0.iter().map(|request| request.command.weight()).sum(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    (OVERHEAD + carried) as u64
}

/// Writes a snapshot while applying goes on.
pub(crate) struct Builder {
    shelf: Arc<Shelf>,
    state: Arc<State>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let mut told = false;
        loop {
            match self.write().await {
                // For openraft a failure would be the end of the node. Meanwhile the log is not trimmed, and the state that
                // is held cannot become much older than the present one, as nothing is written without room either.
                Err(error) if is_full(&error) => {
                    if !told {
                        tracing::warn!(%error, "there is no room for a snapshot; it is tried again until there is");
                    }
                    told = true;
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                written => return written,
            }
        }
    }
}

impl Builder {
    async fn write(&self) -> io::Result<Snapshot> {
        let (shelf, state) = (Arc::clone(&self.shelf), Arc::clone(&self.state));
        blocking(move || {
            let header = SnapshotHeader { meta: state.meta.clone() };
            let file = shelf.write(&header, state.records.range(&[]))?;
            announced(&header, file)
        })
        .await
    }
}

/// A snapshot as openraft wants to hear of it.
pub(crate) fn announced(header: &SnapshotHeader, file: SnapshotFile) -> io::Result<Snapshot> {
    let last_membership = header.meta.membership.clone().try_into().map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id: header.meta.applied.map(LogId::from), last_membership };
    Ok(Snapshot { meta, snapshot: file })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::command::{Command, Request, Requests};
    use crate::disk::{Disk, File, RealDisk};
    use crate::state::Meta;
    use crate::txn::{Op, Txn};

    /// A disk whose syncs wait until it is opened.
    #[derive(Debug)]
    struct Gated(Arc<Gate>);

    #[derive(Debug, Default)]
    struct Gate {
        open: Mutex<bool>,
        changed: Condvar,
        /// Nothing can be written.
        full: AtomicBool,
        refused: AtomicUsize,
    }

    #[derive(Debug)]
    struct GatedFile(Arc<dyn File>, Arc<Gate>);

    impl Disk for Gated {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            RealDisk.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            RealDisk.list(dir)
        }
        fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
            Ok(Arc::new(GatedFile(RealDisk.create(path)?, Arc::clone(&self.0))))
        }
        fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
            RealDisk.open(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            RealDisk.sync_dir(dir)
        }
        fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
            RealDisk.free_bytes(dir)
        }
    }

    impl File for GatedFile {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            if self.1.full.load(Ordering::Relaxed) {
                self.1.refused.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write_at(bytes, offset)
        }
        fn sync(&self) -> io::Result<()> {
            drop(self.1.changed.wait_while(self.1.open.lock().unwrap(), |open| !*open).unwrap());
            self.0.sync()
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
    }

    fn put(index: u64, key: &str) -> io::Result<EntryResponder<Types>> {
        let value = Bytes::from(vec![b'v'; 100_000]);
        let op = Op::Put { key: key.parse().unwrap(), value, lease: None };
        let command = Command::Txn(Txn { success: vec![op], ..Txn::default() });
        let request = Request { origin: 1, sequence: index, settled_below: index, command };
        let log_id = LogId::from(LogIdForm { term: 1, node: 1, index });
        Ok((LogEntry { log_id, payload: EntryPayload::Normal(Requests([request].into())) }, None))
    }

    #[tokio::test]
    async fn entries_are_applied_and_read_while_a_snapshot_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Arc::new(Gate::default());
        let shelf = Arc::new(Shelf::open(Arc::new(Gated(Arc::clone(&gate))), dir.path()).unwrap());
        let view = View::new(Tree::default(), Meta::default());
        let mut machine = Machine::new(Arc::clone(&view), shelf, Arc::new(LogMeter::new(0, 0)));
        machine.apply(stream::iter((1..100).map(|n| put(n, &format!("before/{n}"))))).await.unwrap();

        let mut builder = machine.get_snapshot_builder().await;
        let building = tokio::spawn(async move { builder.build_snapshot().await });
        // The snapshot cannot come to its end, and yet this does.
        machine.apply(stream::iter((100..200).map(|n| put(n, &format!("after/{n}"))))).await.unwrap();
        assert!(view.entry("after/199").unwrap().0.is_some());
        assert!(!building.is_finished() && view.progress().borrow().applied == Some(199));

        *gate.open.lock().unwrap() = true;
        gate.changed.notify_all();
        let snapshot = building.await.unwrap().unwrap();
        assert_eq!(snapshot.meta.last_log_id.unwrap().index, 99);
        let mut entries = 0;
        snapshot
            .snapshot
            .read(&mut |key, _| {
                assert!(!key.starts_with(b"kafter"));
                entries += usize::from(key.starts_with(b"k"));
            })
            .unwrap();
        assert_eq!(entries, 99);
    }

    #[tokio::test]
    async fn a_snapshot_that_finds_no_room_is_written_when_there_is_some() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Arc::new(Gate::default());
        *gate.open.lock().unwrap() = true;
        gate.full.store(true, Ordering::Relaxed);
        let shelf = Arc::new(Shelf::open(Arc::new(Gated(Arc::clone(&gate))), dir.path()).unwrap());
        let view = View::new(Tree::default(), Meta::default());
        let mut machine = Machine::new(view, Arc::clone(&shelf), Arc::new(LogMeter::new(0, 0)));
        machine.apply(stream::iter((1..10).map(|n| put(n, &format!("{n}"))))).await.unwrap();

        let mut builder = machine.get_snapshot_builder().await;
        let building = tokio::spawn(async move { builder.build_snapshot().await });
        while gate.refused.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!building.is_finished() && shelf.newest().is_none());
        gate.full.store(false, Ordering::Relaxed);
        let snapshot = building.await.unwrap().unwrap();
        assert_eq!(snapshot.meta.last_log_id.unwrap().index, 9);
        assert_eq!(RealDisk.list(dir.path()).unwrap().len(), 1, "what was begun in vain is gone");
    }
}
