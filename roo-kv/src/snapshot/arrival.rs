//! A snapshot on its way from another node, over links that may break.
//!
//! The sender asks how much of the snapshot is here and sends the rest in chunks with a checksum each. What came whole stays
//! when the link breaks, until another snapshot is offered or the node restarts.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::file::{SnapshotFile, SnapshotId};
use super::shelf::{Shelf, Unfinished};
use crate::runtime::blocking;

/// Bytes of the file that are sent in one piece.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// A part of a snapshot file: `CRC-32 of the bytes (4, little endian) | bytes`.
pub(crate) struct Chunk(Bytes);

impl Chunk {
    /// The part of a file from `offset` on; `None` at its end. Blocking.
    pub(crate) fn read(file: &SnapshotFile, offset: u64) -> io::Result<Option<Self>> {
        let bytes = file.read_at(offset, CHUNK_BYTES)?;
        Ok((!bytes.is_empty()).then(|| Self(bytes.into())))
    }

    /// How many bytes of the file it holds.
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// As it is sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&crc32fast::hash(&self.0).to_le_bytes()[..], &self.0].concat()
    }

    fn decode(sent: &Bytes) -> io::Result<Self> {
        let fault = |fault: &str| io::Error::new(io::ErrorKind::InvalidData, format!("a chunk of a snapshot {fault}"));
        let (crc, bytes) = sent.split_first_chunk().ok_or_else(|| fault("is cut short"))?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(bytes) {
            return Err(fault("has a wrong checksum"));
        }
        Ok(Self(sent.slice(crc.len()..)))
    }
}

/// Takes snapshots in, one at a time.
pub(crate) struct Arrival {
    shelf: Arc<Shelf>,
    part: Mutex<Option<Part>>,
    /// Ends who writes now: a link may hang long after its other end has given it up.
    turn: std::sync::Mutex<CancellationToken>,
}

struct Part {
    id: SnapshotId,
    file: Arc<Unfinished>,
}

impl Arrival {
    pub(crate) fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf, part: Mutex::default(), turn: std::sync::Mutex::default() }
    }

    /// How much of a snapshot is here. Whoever was sending one before is cut off.
    pub(crate) async fn offset(&self, id: &SnapshotId) -> u64 {
        let (part, _) = self.take_turn().await;
        part.as_ref().filter(|part| part.id == *id).map_or(0, |part| part.file.len())
    }

    /// Takes chunks from `offset` on; answers the whole file, synced and verified.
    ///
    /// # Errors
    /// If the chunks end too soon or one is damaged: what came before it stays for the next attempt.
    pub(crate) async fn take(
        &self,
        id: SnapshotId,
        offset: u64,
        mut chunks: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> io::Result<SnapshotFile> {
        let (mut part, turn) = self.take_turn().await;
        if part.as_ref().is_none_or(|part| part.id != id) {
            let shelf = Arc::clone(&self.shelf);
            let file = blocking(move || shelf.begin()).await?;
            *part = Some(Part { id: id.clone(), file: Arc::new(file) });
        }
        let Some(Part { file, .. }) = &*part else { return Err(io::ErrorKind::NotFound.into()) };
        let file = Arc::clone(file);
        if file.len() != offset {
            return Err(io::Error::other(format!("{} bytes of the snapshot are here, not {offset}", file.len())));
        }
        while file.len() < id.bytes {
            let chunk = tokio::select! {
                biased;
                () = turn.cancelled() => return Err(io::Error::other("it is being sent anew")),
                chunk = chunks.next() => chunk.ok_or(io::ErrorKind::UnexpectedEof)??,
            };
            let chunk = Chunk::decode(&chunk)?;
            let file = Arc::clone(&file);
            blocking(move || file.append(&chunk.0)).await?;
        }
        // Whether it turns out to be whole or not, it is not needed as a part any more.
        *part = None;
        drop(part);
        blocking(move || {
            let file = file.finish()?;
            file.verify()?;
            if file.id()? != id {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the snapshot that was offered"));
            }
            Ok(file)
        })
        .await
    }

    async fn take_turn(&self) -> (MutexGuard<'_, Option<Part>>, CancellationToken) {
        let turn = CancellationToken::new();
        let before = {
            let mut current = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::replace(&mut *current, turn.clone())
        };
        before.cancel();
        (self.part.lock().await, turn)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use futures_util::stream;

    use super::*;
    use crate::disk::{Disk, RealDisk};
    use crate::snapshot::SnapshotHeader;

    fn shelf(dir: &Path) -> Arc<Shelf> {
        Arc::new(Shelf::open(Arc::new(RealDisk), dir).unwrap())
    }

    /// A file of about three megabytes that cannot be compressed.
    fn sent(dir: &Path) -> SnapshotFile {
        let mut random = fastrand::Rng::with_seed(7);
        let records: Vec<(Vec<u8>, Vec<u8>)> =
            (0..3000_u32).map(|n| (n.to_be_bytes().to_vec(), (0..1000).map(|_| random.u8(..)).collect())).collect();
        let records = records.iter().map(|(key, value)| (&key[..], &value[..]));
        shelf(dir).write(&SnapshotHeader::default(), records).unwrap()
    }

    fn chunks(file: &SnapshotFile, mut offset: u64) -> Vec<io::Result<Bytes>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = Chunk::read(file, offset).unwrap() {
            offset += chunk.len();
            chunks.push(Ok(Bytes::from(chunk.encode())));
        }
        chunks
    }

    #[tokio::test]
    async fn a_link_that_breaks_again_and_again_brings_the_snapshot_with_nothing_sent_twice() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = sent(from.path());
        let id = file.id().unwrap();
        let arrival = Arrival::new(shelf(to.path()));
        let (mut attempts, mut sent_bytes) = (0, 0);
        let arrived = loop {
            attempts += 1;
            let offset = arrival.offset(&id).await;
            let mut passed = chunks(&file, offset);
            let whole = passed.len();
            // Two chunks pass; of the next one a byte is changed, or the link breaks.
            if whole > 2 {
                passed.truncate(3);
                if attempts % 2 == 0 {
                    let mut damaged = passed[2].as_ref().unwrap().to_vec();
                    *damaged.last_mut().unwrap() ^= 1;
                    passed[2] = Ok(damaged.into());
                } else {
                    passed[2] = Err(io::ErrorKind::ConnectionReset.into());
                }
            }
            sent_bytes += passed.iter().take(2).map(|chunk| chunk.as_ref().unwrap().len() as u64 - 4).sum::<u64>();
            match arrival.take(id.clone(), offset, stream::iter(passed)).await {
                Ok(arrived) => break arrived,
                Err(error) => assert!(whole > 2, "{error}"),
            }
        };
        assert!(attempts > 5, "{attempts}");
        assert_eq!(sent_bytes, id.bytes);
        assert_eq!(arrived.read_at(0, 4 << 20).unwrap(), file.read_at(0, 4 << 20).unwrap());
    }

    #[tokio::test]
    async fn another_snapshot_begins_anew_and_a_wrong_one_is_refused() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = sent(from.path());
        let id = file.id().unwrap();
        let arrival = Arrival::new(shelf(to.path()));
        let first = chunks(&file, 0).into_iter().take(1);
        arrival.take(id.clone(), 0, stream::iter(first)).await.unwrap_err();
        assert_eq!(arrival.offset(&id).await, CHUNK_BYTES as u64);
        let other = SnapshotId { checksum: id.checksum ^ 1, ..id.clone() };
        assert_eq!(arrival.offset(&other).await, 0);
        let error = arrival.take(other.clone(), 0, stream::iter(chunks(&file, 0))).await.unwrap_err();
        assert!(error.to_string().contains("not the snapshot"), "{error}");
        assert_eq!(arrival.offset(&other).await, 0);
        assert_eq!(RealDisk.list(to.path()).unwrap().len(), 0, "what is of no use is removed");
    }
}
