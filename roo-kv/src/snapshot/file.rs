//! The format of a snapshot file.
//!
//! `magic (8) | version (1)`, then blocks `stored length (4) | raw length (4) | CRC-32 of lengths and stored bytes (4)
//! | stored bytes`, all little endian, each block an LZ4 block of at most about [`BLOCK_BYTES`]. The first block is
//! the header, the others hold records. The end is a block of zero lengths whose CRC field is the CRC-32 of all
//! block CRCs, followed by the number of records (8): a file that was cut anywhere is noticed.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::Meta;

const MAGIC: &[u8; 8] = b"ROOSNAP\n";
const VERSION: u8 = 1;

/// Records are gathered to blocks of this size.
const BLOCK_BYTES: usize = 256 << 10;

/// A block holds at least one record, so it may be larger than [`BLOCK_BYTES`], but never larger than this.
const BLOCK_BYTES_MAX: u32 = 64 << 20;

/// What a snapshot is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) meta: Meta,
}

/// An open snapshot. It stays readable when its file is removed.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    file: Arc<File>,
}

impl SnapshotFile {
    /// Opens a file, without checking its content.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Arc::new(File::open(path)?) })
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
    pub(crate) fn read(&self, visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>) -> io::Result<SnapshotHeader> {
        let mut blocks = self.blocks()?;
        let header = blocks.header()?;
        let mut records = 0_u64;
        loop {
            match blocks.next()? {
                Block::Data(raw) => {
                    let batch: Vec<(Vec<u8>, Vec<u8>)> = postcard::from_bytes(&raw).map_err(damaged)?;
                    for (key, value) in batch {
                        records += 1;
                        visit(key, value)?;
                    }
                }
                Block::End { records: expected } if expected == records => return Ok(header),
                Block::End { .. } => return Err(damaged("records are missing")),
            }
        }
    }

    /// Reads everything and only verifies it.
    pub(crate) fn verify(&self) -> io::Result<SnapshotHeader> {
        self.read(&mut |_, _| Ok(()))
    }

    fn blocks(&self) -> io::Result<Blocks> {
        let mut reader = BufReader::new(Positioned { file: Arc::clone(&self.file), offset: 0 });
        let mut start = [0; 9];
        reader.read_exact(&mut start).map_err(damaged)?;
        let [magic @ .., version] = start;
        if magic != *MAGIC {
            return Err(damaged("it is not a snapshot"));
        }
        if version != VERSION {
            return Err(damaged(format!("it has the unknown format {version}")));
        }
        Ok(Blocks { reader, crcs: crc32fast::Hasher::new() })
    }
}

/// A reader with a position of its own, so that an open file can be read by several at once.
struct Positioned {
    file: Arc<File>,
    offset: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

enum Block {
    Data(Vec<u8>),
    End { records: u64 },
}

struct Blocks {
    reader: BufReader<Positioned>,
    crcs: crc32fast::Hasher,
}

impl Blocks {
    fn header(&mut self) -> io::Result<SnapshotHeader> {
        match self.next()? {
            Block::Data(raw) => postcard::from_bytes(&raw).map_err(damaged),
            Block::End { .. } => Err(damaged("it has no header")),
        }
    }

    fn next(&mut self) -> io::Result<Block> {
        let stored_length = self.number()?;
        let raw_length = self.number()?;
        let crc = self.number()?;
        if stored_length == 0 && raw_length == 0 {
            return self.end(crc);
        }
        if stored_length.max(raw_length) > BLOCK_BYTES_MAX {
            return Err(damaged("a block is too large"));
        }
        let mut stored = vec![0; stored_length as usize];
        self.reader.read_exact(&mut stored).map_err(damaged)?;
        if block_crc(stored_length, raw_length, &stored) != crc {
            return Err(damaged("a block has a wrong checksum"));
        }
        self.crcs.update(&crc.to_le_bytes());
        lz4_flex::block::decompress(&stored, raw_length as usize).map(Block::Data).map_err(damaged)
    }

    fn end(&mut self, crc: u32) -> io::Result<Block> {
        if crc != self.crcs.clone().finalize() {
            return Err(damaged("its checksum is wrong"));
        }
        let mut records = [0; 8];
        self.reader.read_exact(&mut records).map_err(damaged)?;
        if self.reader.read(&mut [0])? != 0 {
            return Err(damaged("it goes on behind its end"));
        }
        Ok(Block::End { records: u64::from_le_bytes(records) })
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.reader.read_exact(&mut bytes).map_err(damaged)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Writes a snapshot record by record.
pub(crate) struct SnapshotWriter<W: Write> {
    output: W,
    pending: Vec<(Vec<u8>, Vec<u8>)>,
    pending_bytes: usize,
    records: u64,
    crcs: crc32fast::Hasher,
}

impl<W: Write> SnapshotWriter<W> {
    /// Writes the beginning.
    pub(crate) fn begin(mut output: W, header: &SnapshotHeader) -> io::Result<Self> {
        output.write_all(MAGIC)?;
        output.write_all(&[VERSION])?;
        let mut writer =
            Self { output, pending: Vec::new(), pending_bytes: 0, records: 0, crcs: crc32fast::Hasher::new() };
        writer.block(&postcard::to_stdvec(header).map_err(io::Error::other)?)?;
        Ok(writer)
    }

    /// Adds a record.
    pub(crate) fn record(&mut self, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
        self.records += 1;
        self.pending_bytes += key.len() + value.len();
        self.pending.push((key, value));
        if self.pending_bytes >= BLOCK_BYTES { self.flush_records() } else { Ok(()) }
    }

    /// Writes the end and gives the output back, not yet synced.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.flush_records()?;
        self.output.write_all(&[0; 8])?;
        self.output.write_all(&self.crcs.clone().finalize().to_le_bytes())?;
        self.output.write_all(&self.records.to_le_bytes())?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn flush_records(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let raw = postcard::to_stdvec(&std::mem::take(&mut self.pending)).map_err(io::Error::other)?;
        self.pending_bytes = 0;
        self.block(&raw)
    }

    fn block(&mut self, raw: &[u8]) -> io::Result<()> {
        let stored = lz4_flex::block::compress(raw);
        let stored_length = u32::try_from(stored.len()).map_err(io::Error::other)?;
        let raw_length = u32::try_from(raw.len()).map_err(io::Error::other)?;
        let crc = block_crc(stored_length, raw_length, &stored);
        self.crcs.update(&crc.to_le_bytes());
        self.output.write_all(&stored_length.to_le_bytes())?;
        self.output.write_all(&raw_length.to_le_bytes())?;
        self.output.write_all(&crc.to_le_bytes())?;
        self.output.write_all(&stored)
    }
}

fn block_crc(stored_length: u32, raw_length: u32, stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&stored_length.to_le_bytes());
    crc.update(&raw_length.to_le_bytes());
    crc.update(stored);
    crc.finalize()
}

fn damaged(fault: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged snapshot: {}", fault.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header() -> SnapshotHeader {
        SnapshotHeader { meta: Meta { last_lease: 7, ..Meta::default() } }
    }

    fn written(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut writer = SnapshotWriter::begin(Vec::new(), &header()).unwrap();
        for (key, value) in records {
            writer.record(key.clone(), value.clone()).unwrap();
        }
        writer.finish().unwrap()
    }

    fn opened(bytes: &[u8]) -> (tempfile::TempDir, SnapshotFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        std::fs::write(&path, bytes).unwrap();
        let file = SnapshotFile::open(&path).unwrap();
        (dir, file)
    }

    #[test]
    fn records_come_back_also_over_many_blocks() {
        for count in [0_u32, 1, 3, 2000] {
            let records: Vec<_> = (0..count).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 700])).collect();
            let (_dir, file) = opened(&written(&records));
            let mut seen = Vec::new();
            let found = file
                .read(&mut |key, value| {
                    seen.push((key, value));
                    Ok(())
                })
                .unwrap();
            assert_eq!(found, header());
            assert_eq!(seen, records);
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let bytes = written(&[(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(opened(&changed).1.verify().is_err(), "byte {at}");
            assert!(opened(&bytes[..at]).1.verify().is_err(), "cut at {at}");
        }
        assert!(opened(&[bytes, vec![0]].concat()).1.verify().is_err());
    }
}
