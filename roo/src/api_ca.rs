//! The CA of the API's certificates. It follows from the secret: every node has the same, and so has every verb that
//! knows the secret.
//!
//! The root is the same to the byte wherever it is made, and has no end. While one secret takes the place of another,
//! a node shows a certificate of the current one's root, and with it that root signed by the other's: so whoever
//! trusts either trusts the node.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use roo_kv::{Secret, Secrets};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A name that every node's certificate carries, beside those under which it is reached.
pub(crate) const NAME: &str = "api.roo";
/// How long a certificate is valid before and after the moment at which it is made.
const VALID: Duration = Duration::from_secs(7 * 24 * 3600);

/// The CA that follows from one secret.
pub(crate) struct ApiCa(CertifiedIssuer<'static, KeyPair>);

impl ApiCa {
    /// Derives it.
    ///
    /// # Errors
    /// None is known to happen.
    pub(crate) fn of(secret: &Secret) -> Result<Self, Error> {
        CertifiedIssuer::self_signed(params(secret), key(secret)?).map(Self)
    }

    /// Its certificate.
    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    /// Its certificate in PEM form.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }
}

/// A new key and certificate for a node with these names: DNS names and IP addresses.
///
/// # Errors
/// If a name can't stand in a certificate.
pub(crate) fn sign(
    secrets: &Secrets,
    names: &[String],
    now: SystemTime,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let ca = ApiCa::of(secrets.current())?;
    let key = KeyPair::generate()?;
    let mut chain = vec![node_params(names, now)?.signed_by(&key, &ca.0)?.der().clone()];
    if let Some(other) = secrets.other() {
        chain.push(params(secrets.current()).signed_by(ca.0.key(), &ApiCa::of(other)?.0)?.der().clone());
    }
    Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

fn key(secret: &Secret) -> Result<KeyPair, Error> {
    let der = secret.api_authority_key();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &rcgen::PKCS_ED25519)
}

fn params(secret: &Secret) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("Roo API {}", secret.id()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn node_params(names: &[String], now: SystemTime) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // A clock that begins in 1970 has no week before it.
    params.not_before = now.checked_sub(VALID).unwrap_or(now).max(SystemTime::UNIX_EPOCH).into();
    params.not_after = (now + VALID).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use roo_kv::Keyring;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn secret(n: u8) -> Secret {
        Secret::from_text(&format!("the secret with number {n}")).unwrap()
    }

    fn trusts(root: &Secret, chain: &[CertificateDer<'_>], name: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(ApiCa::of(root).unwrap().root().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn the_root_is_the_same_wherever_it_is_made() {
        let pem = |n| ApiCa::of(&secret(n)).unwrap().pem();
        assert_eq!(pem(1), pem(1));
        assert_ne!(pem(1), pem(2));
    }

    #[test]
    fn whoever_knows_either_secret_trusts_a_node_until_one_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::open_in(dir.path(), secret(1)).unwrap();
        let names = [NAME.to_owned(), "10.0.0.7".to_owned()];
        let trusted = || {
            let (chain, _) = sign(&ring.secrets(), &names, SystemTime::now()).unwrap();
            assert!(!trusts(&secret(3), &chain, NAME) && !trusts(&ring.secrets().current().clone(), &chain, "x.roo"));
            for name in [NAME, "10.0.0.7"] {
                assert!(trusts(ring.secrets().current(), &chain, name));
            }
            [1, 2].map(|n| trusts(&secret(n), &chain, NAME))
        };
        assert_eq!(trusted(), [true, false]);
        ring.accept(&secret(2)).unwrap();
        assert_eq!(trusted(), [true, true]);
        ring.change_to(secret(2).id()).unwrap();
        assert_eq!(trusted(), [true, true]);
        ring.drop_others(secret(2).id()).unwrap();
        assert_eq!(trusted(), [false, true]);
    }
}
