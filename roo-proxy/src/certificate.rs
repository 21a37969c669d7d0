//! The certificate snapshot: which certificate answers for which name.

use std::fmt;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::map::{Shared, shared};
use crate::name::{HostName, HostPattern};

/// A set of certificates: exact name first, then the wildcard above it, then none. A copy costs nothing: keep one,
/// change it, and give a copy to [`Control::set_certificates`](crate::Control::set_certificates).
#[derive(Clone)]
pub struct Certificates {
    exact: Shared<HostName, Arc<Served>>,
    wildcard: Shared<HostName, Arc<Served>>,
}

/// One certificate with the names that it was installed for.
pub(crate) struct Served {
    names: Vec<HostPattern>,
    key: Arc<CertifiedKey>,
    /// For clients that can't use the first one's kind of key.
    second: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Builds a set; for a name given twice the later certificate wins.
    pub fn new(certificates: impl IntoIterator<Item = (Vec<HostPattern>, Arc<CertifiedKey>)>) -> Certificates {
        let mut set = Certificates::default();
        for (names, key) in certificates {
            set.set(names, key);
        }
        set
    }

    /// Has `key` answer for `names`, in the place of what did before.
    pub fn set(&mut self, names: Vec<HostPattern>, key: Arc<CertifiedKey>) {
        self.set_both(names, key, None);
    }

    /// As [`Certificates::set`], with a `second` one for clients whose signature algorithms the first one's key lacks.
    pub fn set_both(&mut self, names: Vec<HostPattern>, key: Arc<CertifiedKey>, second: Option<Arc<CertifiedKey>>) {
        let served = Arc::new(Served { names, key, second });
        for name in &served.names {
            let (map, name) = self.map_mut(name);
            map.insert_mut(name.clone(), served.clone());
        }
    }

    /// Has nothing answer for `name` any more.
    pub fn remove(&mut self, name: &HostPattern) {
        let (map, name) = self.map_mut(name);
        map.remove_mut(name);
    }

    fn map_mut<'a>(&mut self, name: &'a HostPattern) -> (&mut Shared<HostName, Arc<Served>>, &'a HostName) {
        match name {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
        }
    }

    /// Whether a handshake for `name` can be answered.
    pub fn contains(&self, name: &HostName) -> bool {
        self.find(name).is_some()
    }

    /// Names and wildcards answered for.
    pub fn len(&self) -> usize {
        self.exact.size() + self.wildcard.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn find(&self, name: &HostName) -> Option<&Arc<Served>> {
        self.find_normal(name.as_str())
    }

    /// As `find`, for a name known to be in normal form.
    pub(crate) fn find_normal(&self, name: &str) -> Option<&Arc<Served>> {
        self.exact.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.wildcard.get(parent)
        })
    }
}

impl Served {
    /// The certificate for a client that knows these signature algorithms.
    pub(crate) fn key_for(&self, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        match &self.second {
            Some(second) if self.key.key.choose_scheme(schemes).is_none() => second,
            _ => &self.key,
        }
    }

    /// Whether a client that trusts this certificate for one name may use it for `name` (RFC 9110 §7.4).
    pub(crate) fn covers(&self, name: &HostName) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates { exact: shared(), wildcard: shared() }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.exact.values().chain(self.wildcard.values()).map(|served| &served.names);
        f.debug_list().entries(names).finish()
    }
}

/// Parses a PEM chain, leaf first, and its PEM private key, and checks that they belong together.
///
/// Takes about half a millisecond; call it off the request path. The key appears in no error.
///
/// # Errors
///
/// Says which of the two is at fault.
pub fn certified_key(chain_pem: &str, key_pem: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
    let key = unchecked_key(chain_pem, key_pem)?;
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(key)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch),
        Err(rustls::Error::InvalidCertificate(fault)) => Err(CertificateError::Chain { fault: format!("{fault:?}") }),
        Err(_) => Err(CertificateError::Key),
    }
}

/// As [`certified_key`], without a look into the certificate: it may say what only its reader understands.
pub(crate) fn unchecked_key(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|fault| CertificateError::Chain { fault: fault.to_string() })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    // The parser's error is not passed on: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| CertificateError::Key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| CertificateError::Key)?;
    Ok(CertifiedKey::new(chain, key))
}

/// Why PEM text is not a usable certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The chain does not parse.
    #[error("the certificate chain is not valid PEM or DER: {fault}")]
    Chain {
        /// The parser's words.
        fault: String,
    },
    /// The chain is empty.
    #[error("there is no CERTIFICATE section in the chain")]
    NoCertificate,
    /// The key does not parse or is of a kind that TLS does not use.
    #[error("the private key is not a PEM key of a supported kind (RSA, ECDSA or Ed25519)")]
    Key,
    /// Leaf and key are of two different pairs.
    #[error("the private key does not belong to the first certificate of the chain")]
    Mismatch,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pem(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn key(names: &[&str]) -> (Vec<HostPattern>, Arc<CertifiedKey>) {
        let (chain, key) = pem(names);
        let patterns = names.iter().map(|name| name.parse().unwrap()).collect();
        (patterns, certified_key(&chain, &key).unwrap())
    }

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn an_exact_certificate_is_preferred_to_a_wildcard() {
        let exact = key(&["www.example.com"]);
        let wildcard = key(&["*.example.com", "example.com"]);
        let snapshot = Certificates::new([wildcard.clone(), exact.clone()]);
        let found = |text| snapshot.find(&name(text)).map(|served| served.key.clone());
        assert!(Arc::ptr_eq(&found("www.example.com").unwrap(), &exact.1));
        assert!(Arc::ptr_eq(&found("api.example.com").unwrap(), &wildcard.1));
        assert!(Arc::ptr_eq(&found("example.com").unwrap(), &wildcard.1));
        assert!(found("a.b.example.com").is_none());
        assert_eq!(snapshot.len(), 3);
    }

    #[test]
    fn a_certificate_covers_what_its_patterns_match() {
        let snapshot = Certificates::new([key(&["*.example.com", "example.org"])]);
        let served = snapshot.find(&name("a.example.com")).unwrap();
        assert!(served.covers(&name("b.example.com")));
        assert!(served.covers(&name("example.org")));
        assert!(!served.covers(&name("example.com")));
    }

    #[test]
    fn the_first_of_two_is_shown_unless_the_client_can_not_use_its_key() {
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        let chain = params.self_signed(&rsa).unwrap().pem();
        let second = certified_key(&chain, &rsa.serialize_pem()).unwrap();
        let (names, first) = key(&["a.example"]);
        let mut set = Certificates::default();
        set.set_both(names.clone(), first.clone(), Some(second.clone()));
        let shown = |set: &Certificates, schemes: &[SignatureScheme]| {
            set.find(&name("a.example")).unwrap().key_for(schemes).clone()
        };
        let (ecdsa, pss) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
        assert!(Arc::ptr_eq(&shown(&set, &[pss, ecdsa]), &first));
        assert!(Arc::ptr_eq(&shown(&set, &[pss]), &second));
        set.set(names, first.clone());
        assert!(Arc::ptr_eq(&shown(&set, &[pss]), &first));
    }

    #[test]
    fn a_copy_does_not_see_a_change() {
        let (names, key) = key(&["a.example", "*.b.example"]);
        let before = Certificates::new([(names.clone(), key.clone())]);
        let mut after = before.clone();
        after.remove(&names[1]);
        after.set(vec!["c.example".parse().unwrap()], key);
        let has = |set: &Certificates| ["a.example", "a.b.example", "c.example"].map(|text| set.contains(&name(text)));
        assert_eq!((has(&before), before.len()), ([true, true, false], 2));
        assert_eq!((has(&after), after.len()), ([true, false, true], 2));
    }

    #[test]
    fn bad_pem_is_refused_without_showing_it() {
        let (chain, secret) = pem(&["a.example"]);
        let (_, other) = pem(&["a.example"]);
        let fault = |chain: &str, key: &str| certified_key(chain, key).unwrap_err();
        assert_eq!(fault("", &secret), CertificateError::NoCertificate);
        assert_eq!(fault(&chain, "nonsense"), CertificateError::Key);
        assert_eq!(fault(&chain, &other), CertificateError::Mismatch);
        assert_eq!(fault(&chain, &chain), CertificateError::Key);
    }
}
