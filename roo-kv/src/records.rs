//! Files of records, as snapshots and backups are.
//!
//! `magic (8) | version (1)`, then blocks `stored length (4) | raw length (4) | CRC-32 of lengths and stored bytes (4)
//! | stored bytes`, all little endian, each block an LZ4 block of at most about [`BLOCK_BYTES`]. The first block is
//! the header, the others hold records: `length of the key (4) | key | length of the value (4) | value`. The end is a block
//! of zero lengths whose CRC field is the CRC-32 of all block CRCs, followed by the number of records (8): a file that was
//! cut anywhere is noticed.

use std::io::{self, BufReader, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Records are gathered to blocks of this size.
const BLOCK_BYTES: usize = 256 << 10;

/// A block holds at least one record, so it may be larger than [`BLOCK_BYTES`], but never larger than this.
const BLOCK_BYTES_MAX: u32 = 64 << 20;

/// The checksum of all blocks and the number of records, at the end of a file.
pub(crate) const END_BYTES: usize = 12;

/// What kind of file it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// As an error calls it: "snapshot".
    pub(crate) name: &'static str,
    pub(crate) magic: &'static [u8; 8],
    pub(crate) version: u8,
}

impl Kind {
    pub(crate) fn damaged(self, fault: impl ToString) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("damaged {}: {}", self.name, fault.to_string()))
    }
}

/// Reads a file of records from its beginning to its end.
pub(crate) struct RecordReader<R> {
    kind: Kind,
    reader: BufReader<R>,
    crcs: crc32fast::Hasher,
    records: u64,
}

impl<R: Read> RecordReader<R> {
    /// Reads the beginning: the header follows.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] with a sentence that names the fault, as all that follow.
    pub(crate) fn begin(kind: Kind, reader: R) -> io::Result<Self> {
        let mut reader = BufReader::new(reader);
        let mut start = [0; 9];
        reader.read_exact(&mut start).map_err(|e| kind.damaged(e))?;
        let [magic @ .., version] = start;
        if magic != *kind.magic {
            return Err(kind.damaged(format!("it is not a {}", kind.name)));
        }
        if version != kind.version {
            let known = kind.version;
            return Err(kind.damaged(format!("it has the unknown format {version}, this version of Roo reads {known}")));
        }
        Ok(Self { kind, reader, crcs: crc32fast::Hasher::new(), records: 0 })
    }

    /// What the file says about itself.
    pub(crate) fn header<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let raw = self.next()?.ok_or_else(|| self.kind.damaged("it has no header"))?;
        postcard::from_bytes(&raw).map_err(|e| self.kind.damaged(e))
    }

    /// The next block of records; `None` at the end, once everything was verified.
    pub(crate) fn block(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(raw) = self.next()? else { return Ok(None) };
        self.records += count(&raw).ok_or_else(|| self.kind.damaged("a record is cut short"))?;
        Ok(Some(raw))
    }

    /// Reads the rest, verifies it, and hands the records over.
    ///
    /// # Errors
    /// If anything is missing or changed; records may have been handed over by then.
    pub(crate) fn read(mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        while let Some(raw) = self.block()? {
            records_in(&raw).for_each(|(key, value)| visit(key, value));
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let stored_length = self.number()?;
        let raw_length = self.number()?;
        let crc = self.number()?;
        if stored_length == 0 && raw_length == 0 {
            return self.end(crc).map(|()| None);
        }
        if stored_length.max(raw_length) > BLOCK_BYTES_MAX {
            return Err(self.kind.damaged("a block is too large"));
        }
        let mut stored = vec![0; stored_length as usize];
        self.reader.read_exact(&mut stored).map_err(|e| self.kind.damaged(e))?;
        if block_crc(stored_length, raw_length, &stored) != crc {
            return Err(self.kind.damaged("a block has a wrong checksum"));
        }
        self.crcs.update(&crc.to_le_bytes());
        lz4_flex::block::decompress(&stored, raw_length as usize).map(Some).map_err(|e| self.kind.damaged(e))
    }

    fn end(&mut self, crc: u32) -> io::Result<()> {
        if crc != self.crcs.clone().finalize() {
            return Err(self.kind.damaged("its checksum is wrong"));
        }
        let mut records = [0; 8];
        self.reader.read_exact(&mut records).map_err(|e| self.kind.damaged(e))?;
        if u64::from_le_bytes(records) != self.records {
            return Err(self.kind.damaged("records are missing"));
        }
        if self.reader.read(&mut [0])? != 0 {
            return Err(self.kind.damaged("it goes on behind its end"));
        }
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.reader.read_exact(&mut bytes).map_err(|e| self.kind.damaged(e))?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Adds a record to a block.
pub(crate) fn write_record(block: &mut Vec<u8>, key: &[u8], value: &[u8]) -> io::Result<()> {
    for field in [key, value] {
        let length = u32::try_from(field.len()).map_err(io::Error::other)?;
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(field);
    }
    Ok(())
}

/// The records of a block; ends early at what is none.
pub(crate) fn records_in(mut raw: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || Some((field(&mut raw)?, field(&mut raw)?)))
}

/// How many records a block holds, if it holds nothing else.
fn count(mut raw: &[u8]) -> Option<u64> {
    let mut records = 0;
    while !raw.is_empty() {
        field(&mut raw)?;
        field(&mut raw)?;
        records += 1;
    }
    Some(records)
}

/// Takes a length and so many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (field, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(field)
}

/// Writes a file record by record. The output need not be buffered.
pub(crate) struct RecordWriter<W> {
    output: W,
    /// The block that is being filled.
    pending: Vec<u8>,
    records: u64,
    crcs: crc32fast::Hasher,
}

impl<W: Write> RecordWriter<W> {
    /// Writes the beginning.
    pub(crate) fn begin(kind: Kind, mut output: W, header: &impl Serialize) -> io::Result<Self> {
        output.write_all(&[&kind.magic[..], &[kind.version]].concat())?;
        let mut writer = Self { output, pending: Vec::new(), records: 0, crcs: crc32fast::Hasher::new() };
        writer.block(&postcard::to_stdvec(header).map_err(io::Error::other)?)?;
        Ok(writer)
    }

    /// Adds a record.
    pub(crate) fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.records += 1;
        write_record(&mut self.pending, key, value)?;
        if self.pending.len() >= BLOCK_BYTES { self.flush_records() } else { Ok(()) }
    }

    /// Writes the end and gives the output back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.flush_records()?;
        let crc = self.crcs.clone().finalize().to_le_bytes();
        self.output.write_all(&[&[0; 8][..], &crc, &self.records.to_le_bytes()].concat())?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn flush_records(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut raw = std::mem::take(&mut self.pending);
        self.block(&raw)?;
        raw.clear();
        self.pending = raw;
        Ok(())
    }

    fn block(&mut self, raw: &[u8]) -> io::Result<()> {
        let stored = lz4_flex::block::compress(raw);
        let stored_length = u32::try_from(stored.len()).map_err(io::Error::other)?;
        let raw_length = u32::try_from(raw.len()).map_err(io::Error::other)?;
        let crc = block_crc(stored_length, raw_length, &stored);
        self.crcs.update(&crc.to_le_bytes());
        let head = [stored_length, raw_length, crc].map(u32::to_le_bytes);
        self.output.write_all(&[head.as_flattened(), &stored].concat())
    }
}

fn block_crc(stored_length: u32, raw_length: u32, stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&stored_length.to_le_bytes());
    crc.update(&raw_length.to_le_bytes());
    crc.update(stored);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KIND: Kind = Kind { name: "test", magic: b"ROOTEST\n", version: 3 };

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(records: &Records) -> Vec<u8> {
        let mut writer = RecordWriter::begin(KIND, Vec::new(), &"header").unwrap();
        for (key, value) in records {
            writer.record(key, value).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Records> {
        let mut reader = RecordReader::begin(KIND, bytes)?;
        let header: String = reader.header()?;
        assert_eq!(header, "header");
        let mut seen = Vec::new();
        reader.read(&mut |key, value| seen.push((key.to_vec(), value.to_vec())))?;
        Ok(seen)
    }

    #[test]
    fn records_come_back_also_over_many_blocks() {
        for count in [0_u32, 1, 3, 2000] {
            let records: Records = (0..count).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 700])).collect();
            assert_eq!(read(&written(&records)).unwrap(), records);
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let bytes = written(&vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn another_kind_and_a_newer_format_are_named() {
        let mut bytes = written(&Vec::new());
        bytes[8] = 9;
        let fault = read(&bytes).unwrap_err().to_string();
        assert!(fault.contains("format 9") && fault.contains("reads 3"), "{fault}");
        assert!(read(b"something else that is long enough").unwrap_err().to_string().contains("not a test"));
    }
}
