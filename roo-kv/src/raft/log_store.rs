//! The log as openraft sees it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};

use super::form::{EntryForm, LogIdForm, VoteForm};
use super::{LogEntry, LogId, Types, Vote};
use crate::disk::Disk;
use crate::error::StartError;
use crate::wal::{Driver, Record, Wal};

/// At most about this many bytes of entries are read at once for replication.
const READ_BYTES_MAX: usize = 4 << 20;

/// With less room than this, writes are refused, and taken again from a little more on.
const FREE_BYTES_MIN: u64 = 32 << 20;
const FREE_BYTES_ENOUGH: u64 = 40 << 20;

/// A handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Wal,
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    /// There was little room when it was last looked at.
    is_short: Arc<AtomicBool>,
}

/// How much may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Anything.
    Enough,
    /// What makes room, and votes: the rest is for snapshots, without which nothing ever goes away.
    Little,
    /// Nothing: the last write did not fit.
    None,
}

impl LogStore {
    /// Opens or creates the log in a directory. Blocking. See [`Wal::open`].
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, driver: Driver) -> Result<Self, StartError> {
        let wal = Wal::open(Arc::clone(&disk), dir, driver)?;
        let log = Self { wal, disk, dir: dir.into(), is_short: Arc::default() };
        log.look_for_room();
        Ok(log)
    }

    /// The last purged and the last present entry.
    pub(crate) fn bounds(&self) -> (Option<LogIdForm>, Option<LogIdForm>) {
        (self.wal.state().purged, self.wal.last())
    }

    /// How much may be written, as of the last look.
    pub(crate) fn room(&self) -> Room {
        match (self.wal.is_full(), self.is_short.load(Ordering::Acquire)) {
            (true, _) => Room::None,
            (false, true) => Room::Little,
            (false, false) => Room::Enough,
        }
    }

    /// Looks how much room there is. Blocking, briefly.
    pub(crate) fn look_for_room(&self) {
        let Ok(free) = self.disk.free_bytes(&self.dir) else { return };
        let was_short = self.is_short.load(Ordering::Acquire);
        let is_short = free < if was_short { FREE_BYTES_ENOUGH } else { FREE_BYTES_MIN };
        self.is_short.store(is_short, Ordering::Release);
        match (was_short, is_short) {
            (false, true) => {
                tracing::error!(dir = %self.dir.display(), free, "the disk is nearly full: no writes are taken")
            }
            (true, false) => tracing::info!(dir = %self.dir.display(), free, "the disk has room again"),
            _ => {}
        }
    }

    /// Returns when nothing is written any more. What comes later fails.
    pub(crate) async fn close(&self) {
        self.wal.close().await;
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let entries = self.wal.read(from, to, bytes_max).await?;
        entries.into_iter().map(|entry| entry.into_entry().map_err(io::Error::other)).collect()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<LogEntry>> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.wal.state().vote.map(Vote::from))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        self.read(start, end, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.bounds();
        Ok(LogState { last_purged_log_id: purged.map(LogId::from), last_log_id: last.map(LogId::from) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.wal.change(Record::Vote(VoteForm::from(vote))).await
    }

    // A hint that saves work after a restart: it may ride along with the next write.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.wal.set_committed(LogIdForm::from(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.wal.state().committed.map(LogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(EntryForm::from).collect();
        self.wal.room().await;
        self.wal.append(entries, Box::new(|outcome| callback.io_completed(outcome)))
    }

    // Exclusive here, inclusive below: keep the entry that is named, drop from the next one on.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        if self.wal.last().is_none_or(|last| last.index < from) {
            return Ok(());
        }
        self.wal.change(Record::Truncate { from }).await
    }

    // The files go away after the purge is durable.
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.wal.change(Record::Purge(LogIdForm::from(&log_id))).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use openraft::storage::RaftLogStorageExt;

    use super::super::LogId;
    use super::*;
    use crate::disk::RealDisk;

    fn entry(index: u64) -> LogEntry {
        let log_id = LogId::from(LogIdForm { term: 1, node: 1, index });
        LogEntry { log_id, payload: openraft::EntryPayload::Blank }
    }

    fn open(dir: &Path) -> LogStore {
        LogStore::open(Arc::new(RealDisk), dir, Driver::Thread).unwrap()
    }

    async fn with_entries(dir: &Path, count: u64) -> LogStore {
        let mut log = open(dir);
        log.blocking_append((0..count).map(entry)).await.unwrap();
        log
    }

    #[tokio::test]
    async fn truncating_keeps_the_entry_that_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = with_entries(dir.path(), 5).await;
        log.truncate_after(Some(entry(2).log_id)).await.unwrap();
        assert_eq!(log.bounds().1.unwrap().index, 2);
        assert_eq!(log.try_get_log_entries(0..).await.unwrap().len(), 3);
        log.truncate_after(None).await.unwrap();
        assert_eq!(log.bounds().1, None);
    }

    #[tokio::test]
    async fn purging_drops_the_entry_that_is_named_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = with_entries(dir.path(), 5).await;
        log.purge(entry(2).log_id).await.unwrap();
        log.save_committed(Some(entry(4).log_id)).await.unwrap();
        log.save_vote(&Vote::from(VoteForm { term: 3, node: 9, committed: true })).await.unwrap();
        log.close().await;

        let mut log = open(dir.path());
        let (purged, last) = log.bounds();
        assert_eq!((purged.unwrap().index, last.unwrap().index), (2, 4));
        let kept: Vec<u64> = log.try_get_log_entries(..).await.unwrap().iter().map(|e| e.log_id.index).collect();
        assert_eq!(kept, [3, 4]);
        assert_eq!(VoteForm::from(&log.read_vote().await.unwrap().unwrap()).term, 3);
        assert_eq!(log.read_committed().await.unwrap().unwrap().index, 4);
    }
}
