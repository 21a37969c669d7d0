//! A file of the log.

use std::io;
use std::path::{Path, PathBuf};

use super::frame::{self, ALIGNMENT};
use crate::disk::SECTOR_BYTES;

const EXTENSION: &str = "wal";
const MAGIC: &[u8; 8] = b"ROOWAL\r\n";
const VERSION: u32 = 1;

/// Where the first frame begins.
pub(super) const SEGMENT_HEADER_BYTES: usize = 32;
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{EXTENSION}"))
}

/// The number of the segment in a file; an error if it is of a log, but not of this one.
pub(super) fn number(path: &Path) -> Result<Option<u64>, String> {
    if path.extension().is_none_or(|extension| extension != EXTENSION) {
        return Ok(None);
    }
    let digits = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == 16);
    match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err("it is of a log in a format that was given up before the first release".to_owned()),
    }
}

/// What a segment begins with.
pub(super) fn header(number: u64, first_sequence: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..].copy_from_slice(&first_sequence.to_le_bytes());
    let crc = checksum(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What is wrong with a segment's beginning.
#[derive(Debug)]
pub(super) enum HeaderFault {
    /// It was never written.
    Blank,
    Damaged(String),
}

/// The sequence of the first frame, from the header of the segment with this number.
pub(super) fn first_sequence(bytes: &[u8], number: u64) -> Result<u64, HeaderFault> {
    let damaged = |fault: &str| Err(HeaderFault::Damaged(fault.to_owned()));
    let Some((header, rest)) = bytes.split_first_chunk::<SEGMENT_HEADER_BYTES>() else {
        return Err(HeaderFault::Blank);
    };
    let four = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
    if header[..8] != *MAGIC || four(12) != checksum(header) {
        // One that was cut short has nothing behind it; of one whose first sector was not written, later ones may be.
        let is_blank = frame::is_blank(rest) || frame::is_blank(&bytes[..SECTOR_BYTES.min(bytes.len())]);
        return if is_blank { Err(HeaderFault::Blank) } else { damaged("the header of the segment is wrong") };
    }
    if four(8) != VERSION {
        let fault = format!("it has format {}, this version of Roo reads {VERSION}", four(8));
        return Err(HeaderFault::Damaged(fault));
    }
    if eight(16) != number {
        return damaged("it is the file of another segment");
    }
    Ok(eight(24))
}

fn checksum(header: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(&header[16..]);
    hasher.finalize()
}

/// For [`io::Error`]s at run time: which file, and where in it.
pub(super) fn damaged(path: &Path, offset: u64, fault: &str) -> io::Error {
    let message = format!("{} is damaged at byte {offset}: {fault}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}
