//! Backups of the running store, and putting one into a new cluster.
//!
//! A backup is a file of records (see `records`) with the entries, the leases and which entries hang on which, as they were
//! at one revision. What concerns only the cluster it was taken of (members, the log, replies kept for repeats) is not in
//! it. Values are as they are stored: what was sealed stays sealed.
//!
//! A restore goes through the log, so that all nodes get it: the node that is asked first verifies the whole file, then
//! proposes it in parts, which the state keeps aside, and at last one entry that puts them in place of everything that was
//! there. Until that last entry nothing can be seen of it. If the leader dies, the next one is given what it did not
//! acknowledge; if the node dies that was asked, nothing has happened, and the restore can be asked for again.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::command::{Command, Emptiness, Reply, RestoreReply};
use crate::error::{Error, RestoreError};
use crate::id::{ClusterId, Revision};
use crate::node::Node;
use crate::records::{Kind, RecordWriter, records_in, write_record};
use crate::runtime::{blocking, random};
use crate::seal::Sealer;
use crate::snapshot::SnapshotFile;
use crate::state;
use crate::txn::ReadLevel;

const KIND: Kind = Kind { name: "backup", magic: b"ROOBACK\n", version: 1 };

/// Pieces of a backup that wait for a slow reader.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 64 << 10;

/// Parts of a restore that are proposed at once.
const PARTS_AT_ONCE: usize = 8;

/// How long a step of a restore is tried. Unlike other calls it has a person waiting who has nothing to lose by it, and
/// nothing to gain from an answer that comes before there is a leader again.
const STEP_PATIENCE: Duration = Duration::from_secs(60);

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// The cluster it was taken of.
    pub cluster: ClusterId,
    /// The revision that it shows.
    pub revision: Revision,
    /// When it was taken, in milliseconds since 1970.
    pub taken_ms: u64,
    last_lease: u64,
}

/// How a backup is put into a cluster.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Beginnings of keys that a cluster writes by itself: it counts as empty with them.
    pub own: Vec<String>,
    /// Those among them that people write.
    pub counted: Vec<String>,
    /// Beginnings of keys whose values are sealed.
    pub sealed: Vec<String>,
    /// With what they must be sealed to be of use.
    pub sealer: Sealer,
    /// Leave out what was sealed with another secret, instead of refusing the backup.
    pub without_sealed: bool,
}

/// What was put into the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// What the backup says about itself.
    pub header: BackupHeader,
    /// The store's revision from here on; it is above that of the backup.
    pub revision: Revision,
    /// Entries put in place.
    pub entries: u64,
    /// Entries left out because they were sealed with another secret.
    pub left_out: u64,
}

/// What reading a whole backup shows.
struct Survey {
    header: BackupHeader,
    parts: u64,
    entries: u64,
    left_out: u64,
}

impl Node {
    /// The state as of now, as a file, piece by piece.
    pub(crate) async fn backup(
        &self,
    ) -> Result<(BackupHeader, impl Stream<Item = io::Result<Bytes>> + Send + use<>), Error> {
        self.catch_up(ReadLevel::Linearizable).await?;
        let state = self.view.state();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = BackupHeader {
            cluster: self.identity.cluster().unwrap_or(ClusterId(0)),
            revision: state.meta.revision,
            taken_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            last_lease: state.meta.last_lease,
        };
        let (sender, receiver) = mpsc::channel(PIECES);
        let written = header.clone();
        let writing = blocking(move || {
            let mut writer = RecordWriter::begin(KIND, Pieces { sender, piece: Vec::new() }, &written)?;
            for (key, value) in state.records.range(&[]).filter(|(key, _)| state::is_backed_up(key)) {
                writer.record(key, value)?;
            }
            writer.finish().map(drop)
        });
        let pieces = stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) });
        let fault = stream::once(writing).filter_map(|written| std::future::ready(written.err().map(Err)));
        Ok((header, pieces.chain(fault)))
    }

    /// Puts a backup in place of an empty state.
    pub(crate) async fn restore(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send,
        options: RestoreOptions,
    ) -> Result<RestoreOutcome, RestoreError> {
        self.check_running()?;
        let file = self.spool(pieces).await?;
        let plan = Arc::new(Plan { file, options });
        let surveyed = Arc::clone(&plan);
        let Survey { header, parts, entries, left_out } = blocking(move || Ok(surveyed.survey())).await??;
        let id = random()?;
        match self.propose_all(id, parts, &header, plan).await {
            Ok(revision) => Ok(RestoreOutcome { header, revision, entries, left_out }),
            Err(error) => {
                // If this is lost too, the parts stay aside until the next restore begins.
                let aborted = self.write(Command::RestoreAbort { id }).await;
                Err(match (error, aborted) {
                    // The last step had not happened, and what is still on its way comes too late.
                    (RestoreError::Store(Error::OutcomeUnknown), Ok(Reply::Restore(RestoreReply::Taken))) => {
                        Error::NoLeader { waited: STEP_PATIENCE }.into()
                    }
                    (error, _) => error,
                })
            }
        }
    }

    /// Keeps what comes in on disk: it is looked at as a whole before anything is done.
    async fn spool(&self, pieces: impl Stream<Item = io::Result<Bytes>> + Send) -> Result<SnapshotFile, RestoreError> {
        let shelf = Arc::clone(&self.shelf);
        let unfinished = Arc::new(blocking(move || shelf.begin()).await?);
        let mut pieces = std::pin::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| RestoreError::Interrupted { reason: error.to_string() })?;
            let file = Arc::clone(&unfinished);
            blocking(move || file.append(&piece)).await?;
        }
        Ok(blocking(move || unfinished.finish()).await?)
    }

    async fn propose_all(
        &self,
        id: u64,
        parts: u64,
        header: &BackupHeader,
        plan: Arc<Plan>,
    ) -> Result<Revision, RestoreError> {
        let emptiness = Emptiness { own: plan.options.own.clone(), counted: plan.options.counted.clone() };
        self.propose_step(Command::RestoreBegin { id, emptiness: emptiness.clone() }).await?;
        let (sender, receiver) = mpsc::channel(PARTS_AT_ONCE);
        let reading = blocking(move || {
            plan.parts(&mut |records| sender.blocking_send(records).map_err(io::Error::other)).map_err(io::Error::other)
        });
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
            .zip(stream::iter(0..))
            .map(|(records, number)| self.propose_step(Command::RestorePart { id, number, records: records.into() }))
            .buffer_unordered(PARTS_AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        reading.await?;
        let (revision, last_lease) = (header.revision, header.last_lease);
        match self.propose_step(Command::RestoreEnd { id, parts, revision, last_lease, emptiness }).await? {
            RestoreReply::Done { revision } => Ok(revision),
            _ => Err(RestoreError::Superseded),
        }
    }

    async fn propose_step(&self, command: Command) -> Result<RestoreReply, RestoreError> {
        match self.write_within(command, STEP_PATIENCE).await? {
            Reply::Restore(RestoreReply::InUse { key }) => Err(RestoreError::NotEmpty { key }),
            Reply::Restore(RestoreReply::Superseded) => Err(RestoreError::Superseded),
            Reply::Restore(reply) => Ok(reply),
            _ => Err(Error::OutcomeUnknown.into()),
        }
    }
}

/// A file to be restored, and how.
struct Plan {
    file: SnapshotFile,
    options: RestoreOptions,
}

impl Plan {
    /// Reads and verifies everything.
    fn survey(&self) -> Result<Survey, RestoreError> {
        let (mut parts, mut entries, mut foreign) = (0, 0, 0);
        let mut first_foreign = None;
        let header = self.blocks(&mut |raw| {
            parts += 1;
            for (key, value) in records_in(&raw) {
                if !state::is_backed_up(key) {
                    return Err(RestoreError::Damaged { fault: "it holds records that no backup has".to_owned() });
                }
                match state::entry_of(key, value)? {
                    Some((name, value)) if self.is_foreign(name.as_str(), &value.value) => {
                        foreign += 1;
                        first_foreign.get_or_insert(name);
                    }
                    Some(_) => entries += 1,
                    None => {}
                }
            }
            Ok(())
        })?;
        match first_foreign {
            Some(key) if !self.options.without_sealed => Err(RestoreError::OtherSecret { key, count: foreign }),
            _ => Ok(Survey { header, parts, entries, left_out: foreign }),
        }
    }

    /// Hands over the records that are to be put in place, in parts.
    fn parts(&self, hand: &mut dyn FnMut(Vec<u8>) -> io::Result<()>) -> Result<(), RestoreError> {
        self.blocks(&mut |raw| {
            let mut part = Vec::with_capacity(raw.len());
            for (key, value) in records_in(&raw) {
                let entry = state::entry_of(key, value)?;
                if !entry.is_some_and(|(name, entry)| self.is_foreign(name.as_str(), &entry.value)) {
                    write_record(&mut part, key, value)?;
                }
            }
            Ok(hand(part)?)
        })
        .map(drop)
    }

    fn is_foreign(&self, key: &str, value: &[u8]) -> bool {
        let options = &self.options;
        options.sealed.iter().any(|prefix| key.starts_with(prefix.as_str())) && !options.sealer.has_key_of(value)
    }

    fn blocks(&self, each: &mut dyn FnMut(Vec<u8>) -> Result<(), RestoreError>) -> Result<BackupHeader, RestoreError> {
        let mut reader = self.file.records(KIND)?;
        let header = reader.header()?;
        while let Some(raw) = reader.block()? {
            each(raw)?;
        }
        Ok(header)
    }
}

/// Hands a file over in pieces, and waits while there are too many.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        self.sender.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
