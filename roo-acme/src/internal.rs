//! Roo's own CA: one root for the cluster, an intermediate under it that is changed in time, leaves signed by that.
//!
//! Roots from before there were intermediates allow none (their path length is 0): they go on signing leaves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::authority::INTERNAL;
use crate::certificate::{Certificate, CertificateError};
use crate::keys::{self, KeyKind, Keys};
use crate::record::{self, RecordError};
use crate::timestamp;
use crate::vault::{Item, Vault, VaultError};

/// The root certificate of the internal CA as PEM, for `curl --cacert`.
///
/// Created once for the cluster: the first node to ask makes it, all others get the same one. Asks the vault;
/// dropping the future is harmless.
pub async fn internal_root_pem<V: Vault>(vault: &V) -> Result<String, InternalError> {
    Ok(InternalCa::open(vault, Timestamp::now()).await?.root_pem)
}

/// What may be shown of the internal CA, if there is one. Makes none.
pub async fn internal_ca_facts<V: Vault>(vault: &V) -> Result<Option<CaFacts>, InternalError> {
    match vault.load(&Item::InternalCa).await? {
        Some(bytes) => Ok(Some(record::decode::<InternalCa>(&bytes)?.facts()?)),
        None => Ok(None),
    }
}

/// What may be shown of the internal CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaFacts {
    /// The root, which clients trust.
    pub root: CaCertificate,
    /// The intermediate that signs now; without one the root does.
    pub intermediate: Option<CaCertificate>,
}

/// What may be shown of a certificate of the internal CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaCertificate {
    /// Its name.
    pub subject: String,
    /// Valid from.
    #[serde(with = "timestamp")]
    pub not_before: Timestamp,
    /// Valid until.
    #[serde(with = "timestamp")]
    pub not_after: Timestamp,
    /// Serial number, lower-case hex.
    pub serial: String,
}

/// Root and key of the internal CA. No `Debug`: it holds the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InternalCa {
    root_pem: String,
    key_pem: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intermediate: Option<Intermediate>,
}

/// What signs leaves in the root's name. No `Debug`: it holds the key.
#[derive(Clone, Serialize, Deserialize)]
struct Intermediate {
    certificate_pem: String,
    key_pem: String,
    #[serde(with = "timestamp")]
    not_after: Timestamp,
}

impl InternalCa {
    /// The cluster's CA, made and stored if there is none yet.
    pub(crate) async fn open<V: Vault>(vault: &V, now: Timestamp) -> Result<Self, InternalError> {
        if let Some(bytes) = vault.load(&Item::InternalCa).await? {
            return Ok(record::decode(&bytes)?);
        }
        let ours = Self::generate(now)?;
        if vault.create(&Item::InternalCa, record::encode(&ours)).await? {
            tracing::info!("created the internal CA");
            return Ok(ours);
        }
        // Another node was first; what it wrote is there to stay.
        match vault.load(&Item::InternalCa).await? {
            Some(bytes) => Ok(record::decode(&bytes)?),
            None => Err(VaultError::unavailable("the internal CA was removed meanwhile").into()),
        }
    }

    /// A new root, valid for ten years, and an intermediate.
    fn generate(now: Timestamp) -> Result<Self, InternalError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // The name differs by cluster, so that two roots in one trust store are told apart.
        let common_name = format!("Roo internal CA {:08x}", fastrand::u32(..));
        params.distinguished_name = named(&common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, ROOT_LIFE);
        let root = Self { root_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem(), intermediate: None };
        Ok(root.with_fresh_intermediate(now)?.unwrap_or(root))
    }

    /// The CA with another intermediate, if it is time for that and its root allows one.
    pub(crate) fn with_fresh_intermediate(&self, now: Timestamp) -> Result<Option<Self>, InternalError> {
        let left = |intermediate: &Intermediate| intermediate.not_after.duration_since(now);
        if self.intermediate.as_ref().is_some_and(|had| left(had) > INTERMEDIATE_LEFT)
            || !self.allows_intermediates()?
        {
            return Ok(None);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Roo internal intermediate {:08x}", fastrand::u32(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, INTERMEDIATE_LIFE);
        let root = Issuer::from_ca_cert_pem(&self.root_pem, KeyPair::from_pem(&self.key_pem)?)?;
        let certificate_pem = params.signed_by(&key, &root)?.pem();
        let not_after = now.saturating_add(INTERMEDIATE_LIFE).unwrap_or(Timestamp::MAX);
        let intermediate = Some(Intermediate { certificate_pem, key_pem: key.serialize_pem(), not_after });
        Ok(Some(Self { intermediate, ..self.clone() }))
    }

    fn allows_intermediates(&self) -> Result<bool, InternalError> {
        let der = parsed(&self.root_pem)?;
        let (_, root) = X509Certificate::from_der(&der).map_err(|error| unusable(&error))?;
        let constraints = root.basic_constraints().map_err(|error| unusable(&error))?;
        Ok(constraints.is_none_or(|found| found.value.path_len_constraint.is_none_or(|length| length > 0)))
    }

    fn facts(&self) -> Result<CaFacts, InternalError> {
        let intermediate =
            self.intermediate.as_ref().map(|found| ca_certificate(&found.certificate_pem)).transpose()?;
        Ok(CaFacts { root: ca_certificate(&self.root_pem)?, intermediate })
    }

    /// A certificate for `name`, and a second one beside it if there are to be two.
    pub(crate) fn issue_with(&self, name: &str, now: Timestamp, keys: Keys) -> Result<Certificate, InternalError> {
        let first = self.issue_one(name, now, keys.first)?;
        match keys.second {
            Some(kind) => Ok(first.with_second(self.issue_one(name, now, kind)?)),
            None => Ok(first),
        }
    }

    /// A certificate for `name` (a DNS name, wildcard or IP address) with a new key. The chain holds the intermediate,
    /// if there is one.
    fn issue_one(&self, name: &str, now: Timestamp, kind: KeyKind) -> Result<Certificate, InternalError> {
        let (signer_pem, key_pem, above) = match &self.intermediate {
            Some(found) => (&found.certificate_pem, &found.key_pem, found.certificate_pem.as_str()),
            None => (&self.root_pem, &self.key_pem, ""),
        };
        let signer = Issuer::from_ca_cert_pem(signer_pem, KeyPair::from_pem(key_pem)?)?;
        let key = keys::generate_pair(kind)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        // A common name holds at most 64 characters (RFC 5280, ub-common-name); clients look at the names only.
        params.distinguished_name = named(if name.len() <= 64 { name } else { "Roo" });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, LEAF_LIFE);
        let leaf = params.signed_by(&key, &signer)?;
        let chain = format!("{}{above}", leaf.pem());
        Ok(Certificate::from_pem(chain, key.serialize_pem(), INTERNAL)?)
    }
}

/// Why the internal CA could not do it.
#[derive(Debug, thiserror::Error)]
pub enum InternalError {
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The stored CA is not readable.
    #[error("the stored internal CA is not readable")]
    Record(#[from] RecordError),
    /// Making or signing failed.
    #[error("the internal CA cannot sign: {0}")]
    Signing(#[from] rcgen::Error),
    /// What was signed is not usable.
    #[error("the internal CA made an unusable certificate")]
    Certificate(#[from] CertificateError),
}

fn parsed(pem: &str) -> Result<CertificateDer<'static>, InternalError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(&error))
}

fn unusable(error: &dyn std::fmt::Display) -> InternalError {
    InternalError::Certificate(CertificateError::Leaf { reason: error.to_string() })
}

fn ca_certificate(pem: &str) -> Result<CaCertificate, InternalError> {
    let der = parsed(pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| unusable(&error))?;
    let time =
        |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).map_err(|error| unusable(&error));
    Ok(CaCertificate {
        subject: certificate.subject().to_string(),
        not_before: time(certificate.validity().not_before)?,
        not_after: time(certificate.validity().not_after)?,
        serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Valid from a little before `now`, because clients' clocks differ, for `life`.
fn set_life(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    // Plain arithmetic on the calendar's zero: a clock before 1970 counts as 1970.
    let since_zero = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_zero;
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
}

const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);
const INTERMEDIATE_LIFE: Duration = Duration::from_hours(365 * 24);
/// An intermediate is changed so long before its end that no leaf outlives it.
const INTERMEDIATE_LEFT: SignedDuration = SignedDuration::from_hours(120 * 24);
const BACKDATED: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;

    fn accepts(ca: &InternalCa, certificate: &Certificate, name: &str) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der(&ca.root_pem)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn leaves_are_accepted_by_who_trusts_the_root() {
        let ca = InternalCa::generate(Timestamp::now()).unwrap();
        let long = format!("{0}.{0}.example", "a".repeat(60));
        for (wanted, served, expected) in [
            ("demo.localhost", "demo.localhost", true),
            ("demo.localhost", "other.localhost", false),
            ("*.shop.example", "one.shop.example", true),
            ("*.shop.example", "shop.example", false),
            ("192.0.2.7", "192.0.2.7", true),
            (long.as_str(), long.as_str(), true),
        ] {
            let certificate = ca.issue_one(wanted, Timestamp::now(), KeyKind::P256).unwrap();
            assert!(certificate.covers(wanted));
            assert_eq!(accepts(&ca, &certificate, served), expected, "{wanted} for {served}");
        }
        let stranger = InternalCa::generate(Timestamp::now()).unwrap();
        let certificate = stranger.issue_one("demo.localhost", Timestamp::now(), KeyKind::P256).unwrap();
        assert!(!accepts(&ca, &certificate, "demo.localhost"));
    }

    /// A CA as the first release made it.
    fn first_released(now: Timestamp) -> InternalCa {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Roo internal CA 00000000");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, ROOT_LIFE);
        let root_pem = params.self_signed(&key).unwrap().pem();
        InternalCa { root_pem, key_pem: key.serialize_pem(), intermediate: None }
    }

    #[test]
    fn a_root_that_allows_no_intermediate_goes_on_signing() {
        let now = Timestamp::now();
        let old = first_released(now);
        assert!(old.with_fresh_intermediate(now).unwrap().is_none());
        let certificate = old.issue_one("demo.localhost", now, KeyKind::P256).unwrap();
        assert_eq!(certificate.details().unwrap().chain_len, 1);
        assert!(accepts(&old, &certificate, "demo.localhost"));
        assert_eq!(old.facts().unwrap().intermediate, None);
    }

    #[test]
    fn the_intermediate_is_changed_before_a_leaf_could_outlive_it() {
        let now = Timestamp::now();
        let ca = InternalCa::generate(now).unwrap();
        let day = |days: i64| now.checked_add(SignedDuration::from_hours(24 * days)).unwrap();
        assert!(ca.with_fresh_intermediate(day(244)).unwrap().is_none());
        let changed = ca.with_fresh_intermediate(day(246)).unwrap().unwrap();
        let (before, after) = (ca.facts().unwrap(), changed.facts().unwrap());
        assert_eq!(before.root, after.root);
        assert_ne!(before.intermediate, after.intermediate);
        // On its last day the former one signs a leaf that ends before it.
        let last = ca.issue_one("demo.localhost", day(245), KeyKind::P256).unwrap();
        assert!(last.not_after < before.intermediate.unwrap().not_after);
        // What either has signed is trusted by who trusts the root.
        for (signer, at) in [(&ca, now), (&changed, now)] {
            let certificate = signer.issue_one("demo.localhost", at, KeyKind::P256).unwrap();
            assert_eq!(certificate.details().unwrap().chain_len, 2);
        }
        assert!(accepts(&changed, &ca.issue_one("demo.localhost", now, KeyKind::P256).unwrap(), "demo.localhost"));
        let again: InternalCa = record::decode(&record::encode(&changed)).unwrap();
        assert_eq!(again.facts().unwrap(), after);
    }

    #[test]
    fn a_leaf_lives_ninety_days_and_is_not_due_when_new() {
        let now = Timestamp::now();
        let ca = InternalCa::generate(now).unwrap();
        let facts = ca.issue_one("demo.localhost", now, KeyKind::P256).unwrap().facts();
        let life = facts.not_after.as_second() - now.as_second();
        assert_eq!(life, 90 * 86_400);
        assert!(crate::renewal::renew_at("demo.localhost", &facts, None) > now);
    }

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"root_pem\":\"root\",\"key_pem\":\"key\"}";
        let ca: InternalCa = record::decode(stored).unwrap();
        assert_eq!((ca.root_pem.as_str(), ca.key_pem.as_str()), ("root", "key"));
        assert_eq!(record::encode(&ca), stored);
    }

    #[test]
    fn names_that_no_certificate_can_hold_are_errors() {
        let ca = InternalCa::generate(Timestamp::now()).unwrap();
        assert!(ca.issue_one("\u{fc}.example", Timestamp::now(), KeyKind::P256).is_err());
    }
}
