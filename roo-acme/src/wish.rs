//! What a person asks for a name: a new certificate now, or that the present one be revoked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rpds::RedBlackTreeMapSync;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::certificate::{Certificate, CertificateError};
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
    /// The certificate that is meant and the one beside it, so that they are revoked although others have taken their
    /// place meanwhile. Without it, only what is there can be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meant: Option<Meant>,
}

/// Certificates to be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meant {
    /// Who signed: [`crate::Facts::authority`].
    pub authority: String,
    /// The leaves, DER in base64.
    leaves: Vec<String>,
}

impl Meant {
    /// `certificate`, and the one beside it.
    pub fn both(certificate: &Certificate) -> Result<Self, CertificateError> {
        let beside = certificate.beside();
        let all = std::iter::once(certificate).chain(beside.as_ref());
        let leaves = all.map(|certificate| Ok(STANDARD.encode(certificate.details()?.leaf)));
        Ok(Self { authority: certificate.authority.clone(), leaves: leaves.collect::<Result<_, _>>()? })
    }

    /// The leaves. What is no base64 is left out: it can't come from us.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        self.leaves.iter().filter_map(|leaf| STANDARD.decode(leaf).ok()).map(CertificateDer::from)
    }
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

    /// What people are told of it: all but the certificates.
    #[must_use]
    pub fn told(mut self) -> Self {
        if let Some(revocation) = &mut self.revoke {
            revocation.meant = None;
        }
        self
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
        assert_eq!(
            wish.revoke,
            Some(Revocation { reason: Reason::KeyCompromise, renew: true, serial: None, meant: None })
        );
        assert_eq!(wish.encode(), stored);
        assert_eq!(Wish::decode(b"\x01{\"at\":\"2026-01-02T03:04:05Z\"}").unwrap().revoke, None);
    }
}
