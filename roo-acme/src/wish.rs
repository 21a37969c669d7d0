//! What a person asks for a name: a new certificate now, or that the present one be revoked.

use jiff::Timestamp;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::record::{self, RecordError};
use crate::timestamp;

/// Wishes that are not fulfilled yet, by name.
pub type Wishes = RedBlackTreeMapSync<String, Wish>;

/// What was asked for a name. Stored until it is fulfilled, so that whichever node holds the claim sees it.
///
/// A wish ends the back-off of failures before it; failures after it count as ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// When it was asked for.
    #[serde(with = "timestamp")]
    pub at: Timestamp,
    /// Revoke the certificate; else order another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<Revocation>,
}

/// How to revoke (RFC 8555 section 7.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Why.
    pub reason: Reason,
    /// Whether another certificate takes its place.
    pub renew: bool,
    /// The certificate that is meant: [`crate::Facts::serial`]. Another one is not revoked; `None` = the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// Why a certificate is revoked: the reasons of RFC 5280 section 5.3.1 that a subscriber can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// None is given.
    #[default]
    Unspecified,
    /// Somebody else has or may have the key.
    KeyCompromise,
    /// Its holder has another name now.
    AffiliationChanged,
    /// Another one has taken its place.
    Superseded,
    /// The names are not served any more.
    CessationOfOperation,
}

impl Wish {
    /// The stored form, behind a version byte.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"at\":\"2026-01-02T03:04:05Z\",\"revoke\":{\"reason\":\"keyCompromise\",\"renew\":true}}";
        let wish = Wish::decode(stored).unwrap();
        assert_eq!(wish.revoke, Some(Revocation { reason: Reason::KeyCompromise, renew: true, serial: None }));
        assert_eq!(wish.encode(), stored);
        assert_eq!(Wish::decode(b"\x01{\"at\":\"2026-01-02T03:04:05Z\"}").unwrap().revoke, None);
    }
}
