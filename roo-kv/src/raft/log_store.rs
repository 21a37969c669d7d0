//! The log on disk: votes and entries count as stored only after `fdatasync`.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use raft_log::RaftLog;
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::codeq::{Decode, Encode};
use tokio::sync::oneshot;

use super::form::{EntryForm, LogIdForm, PayloadForm, VoteForm};
use super::{LogEntry, LogId, Types, Vote};

const CACHE_ITEMS: usize = 50_000;
const CACHE_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 64 << 20;
const READ_BUFFER_BYTES: usize = 1 << 20;

/// Gathers the syncs of concurrent writers; without any wait each would pay for one of its own.
const FLUSH_WAIT: Duration = Duration::from_micros(150);

/// Reads this close to the end are answered from the cache, so they may run on an async worker.
const WARM_ENTRIES: u64 = 10_000;

/// At most this many bytes of entries are read at once for replication.
const READ_BYTES_MAX: usize = 4 << 20;

const ENTRY_VERSION: u8 = 1;

/// A handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<RwLock<RaftLog<Wal>>>,
}

impl LogStore {
    /// Opens or creates the log in a directory. A torn tail is cut off; other damage is an error. Blocking.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut config = raft_log::Config::new(dir.display());
        config.log_cache_max_items = Some(CACHE_ITEMS);
        config.log_cache_capacity = Some(CACHE_BYTES);
        config.wal.chunk_max_size = Some(CHUNK_BYTES);
        config.wal.read_buffer_size = Some(READ_BUFFER_BYTES);
        config.wal.flush_batch_wait = Some(FLUSH_WAIT);
        let log = RaftLog::open(Arc::new(config))?;
        Ok(Self { log: Arc::new(RwLock::new(log)) })
    }

    /// The last purged and the last present entry.
    pub(crate) fn bounds(&self) -> (Option<LogIdForm>, Option<LogIdForm>) {
        let log = self.reading();
        let state = log.log_state();
        let purged = state.purged().map(|id| id.0);
        (purged, state.last().map(|id| id.0).or(purged))
    }

    fn reading(&self) -> RwLockReadGuard<'_, RaftLog<Wal>> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, RaftLog<Wal>> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything written so far durable.
    async fn sync(&self) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.writing().flush(true, Some(Flushed::Waiter(sender)))?;
        receiver.await.map_err(|_| io::Error::other("the log's writer has stopped"))?
    }

    fn read_entries(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for item in self.reading().read(from, to) {
            let (id, payload) = item?;
            bytes += payload.0.len();
            entries.push(payload.decode(id.0)?);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(entries)
    }

    async fn read_range(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let last = self.bounds().1.map_or(0, |id| id.index);
        if from.saturating_add(WARM_ENTRIES) >= last {
            return self.read_entries(from, to, bytes_max);
        }
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read_entries(from, to, bytes_max)).await.map_err(io::Error::other)?
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
        self.read_range(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.reading().log_state().vote().map(|vote| Vote::from(vote.0)))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        self.read_range(start, end, READ_BYTES_MAX).await
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
        self.writing().save_vote(WalVote(VoteForm::from(vote)))?;
        self.sync().await
    }

    // A hint that saves work after a restart: it may ride along with the next sync.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        let mut log = self.writing();
        log.commit(WalLogId(LogIdForm::from(&committed)))?;
        log.flush(false, None)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.reading().log_state().committed().map(|id| LogId::from(id.0)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(WalPayload::encode_entry).collect::<io::Result<Vec<_>>>()?;
        let mut log = self.writing();
        log.append(records)?;
        log.flush(true, Some(Flushed::Raft(callback)))
    }

    // Exclusive here, inclusive below: keep the entry that is named, drop from the next one on.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let first_dropped = last_log_id.map_or(0, |id| id.index + 1);
        let (_, last) = self.bounds();
        if last.is_none_or(|last| last.index < first_dropped) {
            return Ok(());
        }
        self.writing().truncate(first_dropped)?;
        self.sync().await
    }

    // The files go away with a sync that follows the record of the purge.
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.writing().purge(WalLogId(LogIdForm::from(&log_id)))?;
        self.sync().await
    }
}

/// How the log library is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wal;

impl raft_log::Types for Wal {
    type LogId = WalLogId;
    type LogPayload = WalPayload;
    type Vote = WalVote;
    type Callback = Flushed;
    type UserData = String;

    fn log_index(log_id: &WalLogId) -> u64 {
        log_id.0.index
    }

    fn payload_size(payload: &WalPayload) -> u64 {
        payload.0.len() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WalLogId(LogIdForm);

impl Encode for WalLogId {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let LogIdForm { term, node, index } = self.0;
        Ok(term.encode(&mut writer)? + node.encode(&mut writer)? + index.encode(&mut writer)?)
    }
}

impl Decode for WalLogId {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let term = u64::decode(&mut reader)?;
        let node = u64::decode(&mut reader)?;
        let index = u64::decode(&mut reader)?;
        Ok(Self(LogIdForm { term, node, index }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
struct WalVote(VoteForm);

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let VoteForm { term, node, committed } = self.0;
        Ok(term.encode(&mut writer)? + node.encode(&mut writer)? + u8::from(committed).encode(&mut writer)?)
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let term = u64::decode(&mut reader)?;
        let node = u64::decode(&mut reader)?;
        let committed = u8::decode(&mut reader)? != 0;
        Ok(Self(VoteForm { term, node, committed }))
    }
}

/// `version (1) | postcard`, preceded by its length. The library adds a checksum to each record.
#[derive(Clone, Debug)]
struct WalPayload(Arc<[u8]>);

impl WalPayload {
    fn encode_entry(entry: LogEntry) -> io::Result<(WalLogId, Self)> {
        let form = EntryForm::from(entry);
        let bytes = postcard::to_extend(&form.payload, vec![ENTRY_VERSION]).map_err(io::Error::other)?;
        Ok((WalLogId(form.log_id), Self(bytes.into())))
    }

    fn decode(&self, log_id: LogIdForm) -> io::Result<LogEntry> {
        let damaged =
            |fault: String| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {}: {fault}", log_id.index));
        match self.0.split_first() {
            Some((&ENTRY_VERSION, body)) => {
                let payload: PayloadForm = postcard::from_bytes(body).map_err(|e| damaged(e.to_string()))?;
                EntryForm { log_id, payload }.into_entry().map_err(|e| damaged(format!("{e}")))
            }
            Some((version, _)) => Err(damaged(format!("unknown format {version}"))),
            None => Err(damaged("empty".to_owned())),
        }
    }
}

impl Encode for WalPayload {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let length = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        let written = length.encode(&mut writer)?;
        writer.write_all(&self.0)?;
        Ok(written + self.0.len())
    }
}

impl Decode for WalPayload {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let length = u32::decode(&mut reader)?;
        let mut bytes = Vec::new();
        reader.take(u64::from(length)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != u64::from(length) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a log entry is cut short"));
        }
        Ok(Self(bytes.into()))
    }
}

/// Who waits for a sync.
enum Flushed {
    Raft(IOFlushed<Types>),
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl raft_log::Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        match self {
            Self::Raft(callback) => callback.io_completed(result),
            // Whoever asked has gone; there is nobody to tell.
            Self::Waiter(sender) => drop(sender.send(result)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use openraft::storage::RaftLogStorageExt;

    use super::super::LogId;
    use super::*;

    fn entry(index: u64) -> LogEntry {
        let log_id = LogId::from(LogIdForm { term: 1, node: 1, index });
        LogEntry { log_id, payload: openraft::EntryPayload::Blank }
    }

    async fn with_entries(dir: &Path, count: u64) -> LogStore {
        let mut log = LogStore::open(dir).unwrap();
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
        drop(log);

        let mut log = LogStore::open(dir.path()).unwrap();
        let (purged, last) = log.bounds();
        assert_eq!((purged.unwrap().index, last.unwrap().index), (2, 4));
        let kept: Vec<u64> = log.try_get_log_entries(..).await.unwrap().iter().map(|e| e.log_id.index).collect();
        assert_eq!(kept, [3, 4]);
        assert_eq!(VoteForm::from(&log.read_vote().await.unwrap().unwrap()).term, 3);
        assert_eq!(log.read_committed().await.unwrap().unwrap().index, 4);
    }
}
