//! Which keys of the state hold what. Numbers are big-endian, so that they sort.
//!
//! | first byte | rest | value |
//! |---|---|---|
//! | `m` | | [`Meta`](super::Meta), only in the copy on disk |
//! | `k` | key | entry |
//! | `l` | lease | [`LeaseRecord`](super::LeaseRecord) |
//! | `x` | lease, key | nothing: the keys of a lease |
//! | `o` | origin | the window of an origin, with small replies |
//! | `r` | origin, sequence | a large reply to a request |
//! | `y` | | the number of the restore that is under way |
//! | `z` | number | a part of a backup that is being restored |
//! | `h` | revision | what happened at it |
//! | `H` | | which part of the history is kept |

use std::io;

use crate::id::{LeaseId, Revision};
use crate::key::Key;

/// Where the facts about the whole state are.
pub(crate) const META_KEY: &[u8] = b"m";

pub(crate) fn entry_prefix(prefix: &str) -> Vec<u8> {
    [b"k", prefix.as_bytes()].concat()
}

pub(crate) fn entry_key(key: &str) -> Vec<u8> {
    entry_prefix(key)
}

pub(crate) fn key_of(raw: &[u8]) -> io::Result<Key> {
    raw.strip_prefix(b"k").and_then(|text| Key::try_from(text).ok()).ok_or_else(|| misplaced("an entry"))
}

pub(crate) fn lease_prefix() -> Vec<u8> {
    b"l".to_vec()
}

pub(crate) fn lease_key(id: LeaseId) -> Vec<u8> {
    [b"l", &id.0.to_be_bytes()[..]].concat()
}

pub(crate) fn lease_of(raw: &[u8]) -> io::Result<LeaseId> {
    number(raw, b'l').map(LeaseId)
}

pub(crate) fn attached_prefix(id: LeaseId) -> Vec<u8> {
    [b"x", &id.0.to_be_bytes()[..]].concat()
}

pub(crate) fn attached_key(id: LeaseId, key: &str) -> Vec<u8> {
    [&attached_prefix(id), key.as_bytes()].concat()
}

pub(crate) fn attached_of(raw: &[u8]) -> io::Result<Key> {
    raw.get(9..).and_then(|text| Key::try_from(text).ok()).ok_or_else(|| misplaced("a key of a lease"))
}

pub(crate) fn origin_prefix() -> Vec<u8> {
    b"o".to_vec()
}

pub(crate) fn origin_key(origin: u64) -> Vec<u8> {
    [b"o", &origin.to_be_bytes()[..]].concat()
}

pub(crate) fn origin_of(raw: &[u8]) -> io::Result<u64> {
    number(raw, b'o')
}

pub(crate) fn reply_key(origin: u64, sequence: u64) -> Vec<u8> {
    [b"r", &origin.to_be_bytes()[..], &sequence.to_be_bytes()[..]].concat()
}

/// Whether a record is about requests that may be repeated.
pub(crate) fn is_window(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'o' | b'r'))
}

/// Whether a record belongs into a backup: entries, leases and what hangs on them.
pub(crate) fn is_backed_up(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'k' | b'l' | b'x'))
}

pub(crate) fn restore_key() -> Vec<u8> {
    b"y".to_vec()
}

pub(crate) fn part_prefix() -> Vec<u8> {
    b"z".to_vec()
}

pub(crate) fn part_key(number: u64) -> Vec<u8> {
    [b"z", &number.to_be_bytes()[..]].concat()
}

/// Where the history is.
pub(crate) const HISTORY_PREFIX: &[u8] = b"h";

/// Where it is said what of the history is kept.
pub(crate) const HISTORY_EXTENT_KEY: &[u8] = b"H";

pub(crate) fn history_key(revision: Revision) -> Vec<u8> {
    [HISTORY_PREFIX, &revision.0.to_be_bytes()[..]].concat()
}

pub(crate) fn history_revision(raw: &[u8]) -> io::Result<Revision> {
    number(raw, b'h').map(Revision)
}

fn number(raw: &[u8], kind: u8) -> io::Result<u64> {
    match raw.split_first() {
        Some((&first, rest)) if first == kind => {
            rest.try_into().map(u64::from_be_bytes).map_err(|_| misplaced("a number"))
        }
        _ => Err(misplaced("a number")),
    }
}

fn misplaced(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the state holds {what} that cannot be read"))
}
