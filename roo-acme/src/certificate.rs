//! A certificate with its key, how it is stored, and what may be shown of it.

use std::fmt;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::record::{self, RecordError};
use crate::timestamp;
use crate::wish::Reason;

/// A certificate chain with its private key. `Debug` never shows the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The DNS names and addresses it is valid for.
    pub names: Vec<String>,
    /// Leaf first, then intermediates, PEM.
    pub chain_pem: String,
    /// The private key, PKCS#8 PEM. Never to be logged, shown or stored unsealed.
    pub key_pem: String,
    /// Who was asked for it: [`crate::Authority::id`].
    pub authority: String,
    /// The signer's name as the certificate has it.
    pub issuer: String,
    /// Valid from.
    #[serde(with = "timestamp")]
    pub not_before: Timestamp,
    /// Valid until.
    #[serde(with = "timestamp")]
    pub not_after: Timestamp,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Who sees to its end.
    #[serde(default, skip_serializing_if = "Managed::is_automatic")]
    pub managed: Managed,
    /// It was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
    /// Another one for the same names with a key of another kind, for clients that can't use this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<Pair>,
}

/// A chain and its key. No `Debug`: it holds the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Leaf first, then intermediates, PEM.
    pub chain_pem: String,
    /// The private key, PEM. Never to be logged, shown or stored unsealed.
    pub key_pem: String,
}

/// Who sees to the end of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Managed {
    /// The issuer: it is renewed in time.
    #[default]
    Automatic,
    /// Whoever brought it in: it is replaced only when it is about to end, and its own authority is not asked.
    Import,
}

impl Managed {
    fn is_automatic(&self) -> bool {
        *self == Self::Automatic
    }
}

/// That a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When we had it revoked.
    #[serde(with = "timestamp")]
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// Whether another one is ordered in its place; else its name has none until somebody asks for one.
    pub renew: bool,
}

/// What a look at the certificate itself tells besides [`Facts`].
#[derive(Debug, Clone)]
pub struct Details {
    /// The kind of its key: `P-256`, `P-384`, `RSA-2048`, `Ed25519`.
    pub key: String,
    /// The leaf, DER.
    pub leaf: CertificateDer<'static>,
    /// Certificates in the chain, the leaf included.
    pub chain_len: usize,
}

impl Certificate {
    /// Reads the leaf of `chain_pem` and checks that `key_pem` is its key.
    pub fn from_pem(chain_pem: String, key_pem: String, authority: &str) -> Result<Self, CertificateError> {
        let leaf = CertificateDer::from_pem_slice(chain_pem.as_bytes())
            .map_err(|error| CertificateError::Chain { reason: error.to_string() })?;
        let (_, leaf) =
            X509Certificate::from_der(&leaf).map_err(|error| CertificateError::Leaf { reason: error.to_string() })?;
        let key = rcgen::KeyPair::from_pem(&key_pem).map_err(|_| CertificateError::Key)?;
        if key.public_key_raw() != leaf.public_key().subject_public_key.data.as_ref() {
            return Err(CertificateError::KeyMismatch);
        }
        Ok(Self {
            names: names_of(&leaf),
            authority: authority.to_owned(),
            issuer: leaf.issuer().to_string(),
            not_before: time_of(leaf.validity().not_before)?,
            not_after: time_of(leaf.validity().not_after)?,
            serial: hex(leaf.raw_serial()),
            chain_pem,
            key_pem,
            managed: Managed::default(),
            revoked: None,
            second: None,
        })
    }

    /// This one with `other` beside it.
    #[must_use]
    pub(crate) fn with_second(mut self, other: Self) -> Self {
        self.second = Some(Pair { chain_pem: other.chain_pem, key_pem: other.key_pem });
        self
    }

    /// The one beside it, as a certificate of its own.
    pub fn beside(&self) -> Option<Self> {
        let pair = self.second.clone()?;
        Self::from_pem(pair.chain_pem, pair.key_pem, &self.authority).ok()
    }

    /// Parses the chain for what is not kept beside it.
    pub fn details(&self) -> Result<Details, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::Chain { reason: error.to_string() })?;
        let missing = || CertificateError::Chain { reason: "it holds no certificate".to_owned() };
        let leaf = chain.first().ok_or_else(missing)?.clone();
        let key = {
            let (_, parsed) = X509Certificate::from_der(&leaf)
                .map_err(|error| CertificateError::Leaf { reason: error.to_string() })?;
            key_kind(&parsed)
        };
        Ok(Details { key, leaf, chain_len: chain.len() })
    }

    /// The stored form, behind a version byte. Holds the private key: for sealing only.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }

    /// What may be shown.
    pub fn facts(&self) -> Facts {
        Facts {
            names: self.names.clone(),
            authority: self.authority.clone(),
            issuer: self.issuer.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            serial: self.serial.clone(),
            managed: self.managed,
            revoked: self.revoked,
        }
    }

    /// Whether it is valid for `name`, which is itself a name or a wildcard to be served as a whole.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|have| have.eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("facts", &self.facts())
            .field("key_pem", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// What may be shown of a certificate: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The DNS names and addresses it is valid for.
    pub names: Vec<String>,
    /// Who was asked for it: [`crate::Authority::id`].
    pub authority: String,
    /// The signer's name as the certificate has it.
    pub issuer: String,
    /// Valid from.
    #[serde(with = "timestamp")]
    pub not_before: Timestamp,
    /// Valid until.
    #[serde(with = "timestamp")]
    pub not_after: Timestamp,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Who sees to its end.
    #[serde(default, skip_serializing_if = "Managed::is_automatic")]
    pub managed: Managed,
    /// It was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// Why PEM texts do not make a certificate. Never quotes the key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain is not PEM.
    #[error("the certificate chain is not PEM: {reason}")]
    Chain {
        /// What is wrong with it.
        reason: String,
    },
    /// The first certificate does not parse.
    #[error("the certificate does not parse: {reason}")]
    Leaf {
        /// What is wrong with it.
        reason: String,
    },
    /// The private key does not parse.
    #[error("the private key does not parse: PKCS#8 PEM is expected")]
    Key,
    /// Certificate and key do not belong together.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate is for other names.
    #[error("the certificate is for {names:?}, not for {wanted:?}")]
    Names {
        /// The names it is valid for.
        names: Vec<String>,
        /// The name that was asked for.
        wanted: String,
    },
}

/// As people call the kind of a key.
fn key_kind(leaf: &X509Certificate<'_>) -> String {
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA-{}", key.key_size()),
        Ok(PublicKey::EC(point)) => format!("P-{}", point.key_size()),
        _ if leaf.public_key().algorithm.algorithm == OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn names_of(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => address(octets),
            _ => None,
        })
        .collect()
}

fn address(octets: &[u8]) -> Option<String> {
    let address = match octets.len() {
        4 => std::net::IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        16 => std::net::IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}

fn time_of(time: x509_parser::time::ASN1Time) -> Result<Timestamp, CertificateError> {
    Timestamp::from_second(time.timestamp()).map_err(|error| CertificateError::Leaf { reason: error.to_string() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fixture() -> Certificate {
        Certificate::decode(include_bytes!("../fixtures/certificate-v1.record")).unwrap()
    }

    #[test]
    fn decodes_the_first_released_format() {
        let stored = fixture();
        let read = Certificate::from_pem(stored.chain_pem.clone(), stored.key_pem.clone(), &stored.authority);
        assert_eq!(read.unwrap(), stored);
        assert_eq!(stored.names, ["shop.example", "*.shop.example", "192.0.2.7"]);
        assert_eq!(stored.serial, "0a1b2c");
        assert_eq!(Certificate::decode(&stored.encode()).unwrap(), stored);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let mut newer = fixture().encode();
        newer[0] = 2;
        assert!(matches!(Certificate::decode(&newer), Err(RecordError::Version { version: 2 })));
        assert!(matches!(Certificate::decode(&[]), Err(RecordError::Empty)));
        let cut = fixture().encode();
        let error = Certificate::decode(&cut[..cut.len() / 2]).unwrap_err();
        assert!(matches!(error, RecordError::Body(_)));
    }

    #[test]
    fn the_key_is_shown_nowhere() {
        let certificate = fixture();
        let secret = certificate.key_pem.lines().nth(1).unwrap();
        let facts = certificate.facts();
        for shown in [
            format!("{certificate:?}"),
            format!("{certificate:#?}"),
            format!("{facts:?}"),
            serde_json::to_string(&facts).unwrap(),
        ] {
            assert!(!shown.contains(secret) && !shown.contains("PRIVATE KEY"), "{shown}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let certificate = fixture();
        let other = crate::keys::generate(crate::keys::KeyKind::P256).unwrap();
        let error = Certificate::from_pem(certificate.chain_pem.clone(), other, "internal").unwrap_err();
        assert!(matches!(error, CertificateError::KeyMismatch));
        let error = Certificate::from_pem(certificate.chain_pem, "nonsense".to_owned(), "internal").unwrap_err();
        assert!(matches!(error, CertificateError::Key));
        let error = Certificate::from_pem("nonsense".to_owned(), certificate.key_pem, "internal").unwrap_err();
        assert!(matches!(error, CertificateError::Chain { .. }));
    }

    #[test]
    fn covers_names_as_a_whole() {
        let certificate = fixture();
        assert!(certificate.covers("Shop.example"));
        assert!(certificate.covers("*.shop.example"));
        assert!(!certificate.covers("a.shop.example"));
    }
}
