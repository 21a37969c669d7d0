//! The stored forms of the state: postcard behind a version byte.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::Revision;
use crate::raft::{LogIdForm, StoredMembershipForm};

const VERSION: u8 = 1;

/// Facts about the whole state, written with every batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The last entry of the log that the state contains.
    pub(crate) applied: Option<LogIdForm>,
    pub(crate) membership: StoredMembershipForm,
    pub(crate) revision: Revision,
    /// The newest lease; the next one is greater by one.
    pub(crate) last_lease: u64,
}

/// A lease. When it ends is the leader's knowledge, not the state's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    pub(crate) ttl_ms: u64,
}

/// Encodes a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> io::Result<Vec<u8>> {
    postcard::to_extend(record, vec![VERSION]).map_err(io::Error::other)
}

/// Decodes a record.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for anything that [`encode`] did not make.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let damaged = |fault: String| io::Error::new(io::ErrorKind::InvalidData, format!("a stored record: {fault}"));
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|e| damaged(e.to_string())),
        Some((version, _)) => Err(damaged(format!("unknown format {version}"))),
        None => Err(damaged("empty".to_owned())),
    }
}
