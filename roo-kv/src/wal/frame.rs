//! A frame: the records that one sync made durable.

use std::io;
use std::ops::Range;

use super::record::{RawRecord, Record};
use crate::disk::SECTOR_BYTES;

/// Frames begin at multiples of this, so that no header lies in two sectors.
pub(super) const ALIGNMENT: usize = 32;
pub(super) const FRAME_HEADER_BYTES: usize = 32;
const _: () = assert!(SECTOR_BYTES.is_multiple_of(ALIGNMENT) && FRAME_HEADER_BYTES <= ALIGNMENT);

const MAGIC: [u8; 4] = *b"FRAM";

/// None of its bytes is zero: where it lacks any, it was not written.
const END: [u8; 4] = *b"\xE5END";

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameId {
    pub(super) segment: u64,
    pub(super) sequence: u64,
}

/// Why there is no frame where one could be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing was written there.
    Blank,
    /// It was not written to its end; the frame would have ended here, if that is known.
    Torn { end: Option<usize> },
    /// It was changed after it was written.
    Damaged { offset: usize, fault: String },
}

/// Appends a frame and returns where each record is, counted from the start of `bytes`. `bytes` must begin at a
/// multiple of [`ALIGNMENT`] of the file; so does what comes after the frame.
pub(super) fn encode<'a>(
    id: FrameId,
    records: impl IntoIterator<Item = &'a Record>,
    bytes: &mut Vec<u8>,
) -> io::Result<Vec<Range<usize>>> {
    let start = bytes.len();
    debug_assert!(start.is_multiple_of(ALIGNMENT), "frames are aligned");
    bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let mut places = Vec::new();
    for record in records {
        let from = bytes.len();
        record.encode(bytes)?;
        places.push(from..bytes.len());
    }
    let length = u32::try_from(bytes.len() - start - FRAME_HEADER_BYTES).map_err(io::Error::other)?;
    let count = u32::try_from(places.len()).map_err(io::Error::other)?;
    let header = &mut bytes[start..start + FRAME_HEADER_BYTES];
    header[4..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&id.segment.to_le_bytes());
    header[16..24].copy_from_slice(&id.sequence.to_le_bytes());
    header[24..28].copy_from_slice(&length.to_le_bytes());
    header[28..32].copy_from_slice(&count.to_le_bytes());
    let crc = crc32fast::hash(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&END);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Ok(places)
}

/// A frame that is whole.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Each with its offset.
    pub(super) records: Vec<(usize, RawRecord<'a>)>,
    /// The offset of what follows the frame.
    pub(super) end: usize,
}

/// The frame at `at` of a segment's bytes.
pub(super) fn decode(bytes: &[u8], at: usize, id: FrameId) -> Result<Frame<'_>, Missing> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    let Some((header, behind)) = rest.split_at_checked(FRAME_HEADER_BYTES) else {
        return Err(if is_blank(rest) { Missing::Blank } else { Missing::Torn { end: None } });
    };
    let damaged = |offset: usize, fault: &str| Missing::Damaged { offset, fault: fault.to_owned() };
    if is_blank(header) {
        // What lies in one sector with it would have been written with it.
        let is_blank = is_blank(&rest[..in_sector(rest, at)]);
        return Err(if is_blank { Missing::Blank } else { damaged(at, "a frame's header is missing") });
    }
    let Some(found) = Header::parse(header) else {
        // A write that was cut short within the header has nothing behind it.
        let is_cut = is_blank(behind);
        return Err(if is_cut {
            Missing::Torn { end: None }
        } else {
            damaged(at, "a frame's header has a wrong checksum")
        });
    };
    if found.id != id {
        return Err(damaged(at, "a frame is of another place in the log"));
    }
    let Some(frame) = rest.get(..FRAME_HEADER_BYTES + found.length + END.len()) else {
        return Err(Missing::Torn { end: None });
    };
    let end = at + frame.len();
    let (records, fault) = take_records(frame, &found, at);
    match fault {
        None => Ok(Frame { records, end: end.next_multiple_of(ALIGNMENT) }),
        Some(_) if lacks_a_part(frame, at) => Err(Missing::Torn { end: Some(end) }),
        Some((offset, fault)) => Err(damaged(offset, &fault)),
    }
}

/// The records of a frame at `at`, and what is wrong with the frame, and where.
#[expect(clippy::type_complexity, reason = "it is used once, right above")]
fn take_records<'a>(
    frame: &'a [u8],
    header: &Header,
    at: usize,
) -> (Vec<(usize, RawRecord<'a>)>, Option<(usize, String)>) {
    let mut records = Vec::new();
    let mut from = FRAME_HEADER_BYTES;
    let to = FRAME_HEADER_BYTES + header.length;
    for _ in 0..header.count {
        match RawRecord::take(&frame[from..to]) {
            Ok(record) => {
                records.push((at + from, record));
                from += record.length();
            }
            Err(fault) => return (records, Some((at + from, fault))),
        }
    }
    let is_whole = from == to && frame.ends_with(&END);
    (records, (!is_whole).then(|| (at + from, "a frame does not end as it should".to_owned())))
}

/// The sequence of the header at the front of `bytes`, if it is a header of this segment.
pub(super) fn sequence_at(bytes: &[u8], segment: u64) -> Option<u64> {
    let header = Header::parse(bytes.get(..FRAME_HEADER_BYTES)?)?;
    (header.id.segment == segment).then_some(header.id.sequence)
}

/// Whether a sector of the frame, or some of its end, was never written.
fn lacks_a_part(frame: &[u8], at: usize) -> bool {
    let (first, rest) = frame.split_at(in_sector(frame, at));
    let end = &frame[frame.len() - END.len()..];
    is_blank(first) || rest.chunks(SECTOR_BYTES).any(is_blank) || end.contains(&0)
}

/// How many of the bytes at `at` are in the same sector as the first.
fn in_sector(bytes: &[u8], at: usize) -> usize {
    (SECTOR_BYTES - at % SECTOR_BYTES).min(bytes.len())
}

pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

struct Header {
    id: FrameId,
    length: usize,
    count: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        let (magic, numbers) = rest.split_first_chunk::<4>()?;
        let (segment, numbers) = numbers.split_first_chunk::<8>()?;
        let (sequence, numbers) = numbers.split_first_chunk::<8>()?;
        let (length, numbers) = numbers.split_first_chunk::<4>()?;
        let (count, _) = numbers.split_first_chunk::<4>()?;
        let is_header = *magic == MAGIC && u32::from_le_bytes(*crc) == crc32fast::hash(rest);
        is_header.then(|| Self {
            id: FrameId { segment: u64::from_le_bytes(*segment), sequence: u64::from_le_bytes(*sequence) },
            length: u32::from_le_bytes(*length) as usize,
            count: u32::from_le_bytes(*count),
        })
    }
}
