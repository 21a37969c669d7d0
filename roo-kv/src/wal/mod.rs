//! The write-ahead log: the node's votes and entries, on disk before anybody hears that they are.
//!
//! # What is promised
//!
//! - Whoever waits for a write is told after its `fdatasync` returned. Writes that arrive while one is carried out are
//!   gathered into the next: one write and one sync for all of them. Nobody waits for more to gather.
//! - Opening finds everything that was acknowledged. What a power cut has left half-written at the very end is cut off;
//!   anything else that does not fit is damage, and opening fails with the name of the file and the place.
//! - If there is no room, nothing is acknowledged and the writer tries again until there is. Any other fault ends the log:
//!   everything that waits and all that comes later fails. A sync that has failed is never repeated, since nobody knows
//!   what it left behind ("Can Applications Recover from fsync Failures?", Rebello et al., USENIX ATC 2020).
//!
//! # The format, version 1
//!
//! The log is a row of segments, `<number in 16 hexadecimal digits>.wal`, numbered without gap. All numbers are little
//! endian.
//!
//! ```text
//! segment  magic "ROOWAL\r\n" (8) | version (4) | CRC-32 of the rest of this header (4) | its number (8)
//!          | sequence of its first frame (8) | frames, each at a multiple of 32 | zeros
//! frame    CRC-32 of the rest of this header (4) | magic "FRAM" (4) | number of the segment (8) | sequence (8)
//!          | bytes of records (4) | records (4), then the records | end "\xE5END" (4)
//! record   bytes of the body (4) | CRC-32 of length, kind and body (4) | kind (1) | body
//! ```
//!
//! A frame is what one sync made durable. The next is written only after that, so a frame with a higher sequence
//! proves that all before it were durable: that is how a torn end is told from damage. A frame's header lies within one
//! sector, so it is there or it is not; what a power cut has left out of a frame are whole sectors of zeros, since it was
//! written over zeros. Hence: a frame that fails its checksums is *torn* if it is the last, and a sector of it or its end is
//! missing; else it is *damaged*. What remains undetected is damage of the very last frame that looks like that.
//!
//! The space ahead of the end is filled with zeros along with the write that needs it: a write over bytes that are there
//! already, and its sync, take about a third less time than one that makes the file longer.
//!
//! Each segment begins with the state as it was then (vote, committed, purged), so that the oldest segments can be
//! removed when all of their entries are purged.

mod frame;
mod index;
mod log;
mod record;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod power_test;

pub(crate) use log::{Driver, Wal};
pub(crate) use record::Record;
