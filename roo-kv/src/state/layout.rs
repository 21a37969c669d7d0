//! Which keys of the engine hold what. Numbers are big-endian, so that they sort.
//!
//! | first byte | rest | value |
//! |---|---|---|
//! | `m` | | [`Meta`](super::Meta) |
//! | `k` | key | entry |
//! | `l` | lease | [`LeaseRecord`](super::LeaseRecord) |
//! | `x` | lease, key | nothing: the keys of a lease |
//! | `o` | origin | the window of an origin |
//! | `r` | origin, sequence | the reply to a request |

use std::io;

use crate::id::LeaseId;
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

pub(crate) fn reply_prefix(origin: u64) -> Vec<u8> {
    [b"r", &origin.to_be_bytes()[..]].concat()
}

pub(crate) fn reply_key(origin: u64, sequence: u64) -> Vec<u8> {
    [&reply_prefix(origin), &sequence.to_be_bytes()[..]].concat()
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
