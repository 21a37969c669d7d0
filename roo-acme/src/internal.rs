//! Roo's own CA: one root for the cluster, leaves signed by it.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use serde::{Deserialize, Serialize};

use crate::authority::INTERNAL;
use crate::certificate::{Certificate, CertificateError};
use crate::record::{self, RecordError};
use crate::vault::{Item, Vault, VaultError};

/// The root certificate of the internal CA as PEM, for `curl --cacert`.
///
/// Created once for the cluster: the first node to ask makes it, all others get the same one. Asks the vault;
/// dropping the future is harmless.
pub async fn internal_root_pem<V: Vault>(vault: &V) -> Result<String, InternalError> {
    Ok(InternalCa::open(vault, Timestamp::now()).await?.root_pem)
}

/// Root and key of the internal CA. No `Debug`: it holds the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InternalCa {
    root_pem: String,
    key_pem: String,
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

    /// A new root, valid for ten years.
    fn generate(now: Timestamp) -> Result<Self, InternalError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // The name differs by cluster, so that two roots in one trust store are told apart.
        let common_name = format!("Roo internal CA {:08x}", fastrand::u32(..));
        params.distinguished_name = named(&common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, ROOT_LIFE);
        Ok(Self { root_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
    }

    /// A certificate for `name` (a DNS name, wildcard or IP address) with a new key. The chain is the leaf alone.
    pub(crate) fn issue(&self, name: &str, now: Timestamp) -> Result<Certificate, InternalError> {
        let root_key = KeyPair::from_pem(&self.key_pem)?;
        let root = Issuer::from_ca_cert_pem(&self.root_pem, root_key)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        // A common name holds at most 64 characters (RFC 5280, ub-common-name); clients look at the names only.
        params.distinguished_name = named(if name.len() <= 64 { name } else { "Roo" });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, LEAF_LIFE);
        let leaf = params.signed_by(&key, &root)?;
        Ok(Certificate::from_pem(leaf.pem(), key.serialize_pem(), INTERNAL)?)
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
const BACKDATED: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn accepts(ca: &InternalCa, certificate: &Certificate, name: &str) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der(&ca.root_pem)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let leaf = der(&certificate.chain_pem);
        verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).is_ok()
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
            let certificate = ca.issue(wanted, Timestamp::now()).unwrap();
            assert!(certificate.covers(wanted));
            assert_eq!(accepts(&ca, &certificate, served), expected, "{wanted} for {served}");
        }
        let stranger = InternalCa::generate(Timestamp::now()).unwrap();
        let certificate = stranger.issue("demo.localhost", Timestamp::now()).unwrap();
        assert!(!accepts(&ca, &certificate, "demo.localhost"));
    }

    #[test]
    fn a_leaf_lives_ninety_days_and_is_not_due_when_new() {
        let now = Timestamp::now();
        let ca = InternalCa::generate(now).unwrap();
        let facts = ca.issue("demo.localhost", now).unwrap().facts();
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
        assert!(ca.issue("\u{fc}.example", Timestamp::now()).is_err());
    }
}
