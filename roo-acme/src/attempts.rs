//! The memory of failures: how often a name failed, why, and when it may be tried again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::{self, RecordError};
use crate::timestamp;

/// Failures of one name since its last success. Stored, so that a restart forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failures in a row, at least 1.
    pub failures: u32,
    /// What went wrong last, for people; never holds a secret. At most 1 KiB.
    pub last_error: String,
    /// When it went wrong last.
    #[serde(with = "timestamp")]
    pub last_at: Timestamp,
    /// Not to be tried before this time.
    #[serde(with = "timestamp")]
    pub next_at: Timestamp,
}

impl Attempts {
    /// The stored form, behind a version byte.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }
}
