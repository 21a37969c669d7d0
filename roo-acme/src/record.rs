//! How records are laid out in the vault: one version byte, then a JSON body with named fields.
//!
//! Named fields let a later version add optional ones without a new version byte; a new byte is for
//! changes that an older node must not misread. A node refuses bytes of a version it does not know.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes `body` as a record of the current version.
pub(crate) fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // Our records are structs of strings, numbers and vectors: JSON has a form for each of them.
    serde_json::to_writer(&mut bytes, body).expect("a record of plain fields has a JSON form");
    bytes
}

/// Decodes any version of a record up to the current one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&VERSION, body)) => serde_json::from_slice(body).map_err(RecordError::Body),
        Some((&version, _)) => Err(RecordError::Version { version }),
    }
}

/// Stored bytes that are not a record of ours.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There are no bytes at all.
    #[error("the record is empty")]
    Empty,
    /// A newer Roo wrote it.
    #[error("the record has format version {version}, this Roo knows up to {VERSION}: upgrade this node")]
    Version {
        /// The version byte found.
        version: u8,
    },
    /// The body does not parse. The message names places and types, never values.
    #[error("the record is damaged")]
    Body(#[source] serde_json::Error),
}

const VERSION: u8 = 1;
