//! A snapshot file: records behind a header with the facts about the state.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shelf::Scrap;
use crate::disk::{Disk, File};
use crate::raft::LogIdForm;
use crate::records::{END_BYTES, Kind, RecordReader};
use crate::state::Meta;

pub(super) const KIND: Kind = Kind { name: "snapshot", magic: b"ROOSNAP\n", version: 2 };

/// What a snapshot is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) meta: Meta,
}

/// Tells one snapshot file from all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotId {
    pub(crate) applied: Option<LogIdForm>,
    /// Its length.
    pub(crate) bytes: u64,
    /// The one at its end, of all that is before.
    pub(crate) checksum: u32,
}

/// An open snapshot. It stays readable when its file is removed.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Of one that is not on the shelf yet.
    #[expect(dead_code, reason = "dropping it removes the file")]
    scrap: Option<Arc<Scrap>>,
}

impl SnapshotFile {
    /// Opens a file, without checking its content.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: disk.open(path)?, scrap: None })
    }

    /// One that was just written, and is removed when the last handle is dropped.
    pub(super) fn unfinished(file: Arc<dyn File>, scrap: Arc<Scrap>) -> Self {
        Self { path: scrap.path().to_owned(), file, scrap: Some(scrap) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// What it says that it is of.
    pub(crate) fn header(&self) -> io::Result<SnapshotHeader> {
        self.records(KIND)?.header()
    }

    /// Which snapshot it is, as its header and its end say.
    pub(crate) fn id(&self) -> io::Result<SnapshotId> {
        let bytes = self.bytes()?;
        let mut end = [0; END_BYTES];
        self.file.read_exact_at(&mut end, bytes.saturating_sub(END_BYTES as u64)).map_err(|e| KIND.damaged(e))?;
        let [a, b, c, d, ..] = end;
        let applied = self.header()?.meta.applied;
        Ok(SnapshotId { applied, bytes, checksum: u32::from_le_bytes([a, b, c, d]) })
    }

    /// Reads up to `length` bytes from `offset`; empty at the end.
    pub(crate) fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads everything, verifies it, and hands the records over.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if anything is missing or changed; records may have been handed over by then.
    pub(crate) fn read(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<SnapshotHeader> {
        let mut reader = self.records(KIND)?;
        let header = reader.header()?;
        reader.read(visit)?;
        Ok(header)
    }

    /// Reads everything and only verifies it.
    pub(crate) fn verify(&self) -> io::Result<SnapshotHeader> {
        self.read(&mut |_, _| ())
    }

    /// Reads it as a file of some kind.
    pub(crate) fn records(&self, kind: Kind) -> io::Result<RecordReader<Positioned>> {
        RecordReader::begin(kind, Positioned { file: Arc::clone(&self.file), offset: 0 })
    }
}

/// A reader with a position of its own, so that an open file can be read by several at once.
pub(crate) struct Positioned {
    file: Arc<dyn File>,
    offset: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
