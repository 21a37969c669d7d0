//! Reading a certificate that somebody brings: whatever the order of its chain and the form of its key.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate::{Certificate, CertificateError, Managed};

/// Marks certificates whose authority is not known.
pub const IMPORTED: &str = "imported";

/// Why a certificate can't be taken. Never quotes the key.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no private key in the text.
    #[error("there is no private key in PEM form: PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, without a password")]
    NoKey,
    /// None of the certificates has this key.
    #[error("the private key belongs to none of the {count} certificates")]
    NoLeaf {
        /// How many certificates there are.
        count: usize,
    },
    /// It names nothing that could be served.
    #[error(
        "the certificate names no host: it has no subject alternative name (RFC 6125), and its common name does not count"
    )]
    NoNames,
    /// It has ended.
    #[error("the certificate ended at {not_after}")]
    Expired {
        /// When.
        not_after: Timestamp,
    },
    /// What is left is not usable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Certificate {
    /// Reads the certificates in `chain` and the key in `key`, PEM each; they may be the same text. The leaf is the one
    /// that has the key; after it come its issuers, as far as they are there, without the root. What does not belong to
    /// the chain is left out.
    ///
    /// # Errors
    /// [`ImportError::Expired`] and [`ImportError::NoNames`] only after everything else was found right.
    pub fn import(chain: &str, key: &str) -> Result<Self, ImportError> {
        let key_pem = blocks(key).find(|block| block.label.ends_with("PRIVATE KEY")).ok_or(ImportError::NoKey)?.pem;
        let pems: Vec<String> =
            blocks(chain).filter(|block| block.label == "CERTIFICATE").map(|block| block.pem).collect();
        let mut read = Vec::new();
        for pem in &pems {
            read.push(Certificate::from_pem(pem.clone(), key_pem.clone(), IMPORTED));
        }
        let Some(leaf) = read.iter().position(Result::is_ok) else {
            // A key or a certificate that is not understood says more than that none fits.
            let fault = read.into_iter().filter_map(Result::err).find(|e| !matches!(e, CertificateError::KeyMismatch));
            return Err(fault.map_or(ImportError::NoLeaf { count: pems.len() }, ImportError::Certificate));
        };
        let chain_pem = ordered(&pems, leaf)?;
        let certificate = Self { managed: Managed::Import, ..Self::from_pem(chain_pem, key_pem, IMPORTED)? };
        if certificate.names.is_empty() {
            return Err(ImportError::NoNames);
        }
        Ok(certificate)
    }

    /// # Errors
    /// If it has ended at `now`.
    pub fn check_life(&self, now: Timestamp) -> Result<(), ImportError> {
        match self.not_after > now {
            true => Ok(()),
            false => Err(ImportError::Expired { not_after: self.not_after }),
        }
    }
}

/// A part of a PEM text.
struct Block {
    label: String,
    pem: String,
}

/// The parts of a PEM text, each with fresh line ends.
fn blocks(text: &str) -> impl Iterator<Item = Block> {
    text.split("-----BEGIN ").skip(1).filter_map(|part| {
        let (label, rest) = part.split_once("-----")?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let lines: Vec<&str> = body.split_whitespace().collect();
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
        Some(Block { label: label.to_owned(), pem })
    })
}

/// The certificate at `leaf` and its issuers, each signed by the next; roots are left out.
fn ordered(pems: &[String], leaf: usize) -> Result<String, CertificateError> {
    let mut ders = Vec::new();
    for pem in pems {
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        ders.push(der.map_err(|error| CertificateError::Chain { reason: error.to_string() })?);
    }
    let mut parsed = Vec::new();
    for der in &ders {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| CertificateError::Chain { reason: error.to_string() })?;
        parsed.push(certificate);
    }
    let mut chain = vec![leaf];
    while let Some(next) = chain.last().and_then(|last| issuer_of(&parsed, *last)) {
        if chain.contains(&next) || parsed[next].subject() == parsed[next].issuer() {
            break;
        }
        chain.push(next);
    }
    Ok(chain.into_iter().map(|at| pems[at].as_str()).collect())
}

fn issuer_of(parsed: &[X509Certificate<'_>], of: usize) -> Option<usize> {
    let issuer = parsed[of].issuer();
    (0..parsed.len()).find(|at| *at != of && parsed[*at].subject() == issuer && parsed[*at].is_ca())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
        PKCS_RSA_SHA256,
    };

    use super::*;

    struct Pki {
        root: String,
        intermediate: String,
        leaf: String,
        key: KeyPair,
    }

    fn ca(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn pki(names: &[&str], key: KeyPair) -> Pki {
        let root = CertifiedIssuer::self_signed(ca("Root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate = CertifiedIssuer::signed_by(ca("Intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &intermediate).unwrap();
        Pki { root: root.pem(), intermediate: intermediate.pem(), leaf: leaf.pem(), key }
    }

    #[test]
    fn a_chain_in_any_order_is_mended() {
        let pki = pki(&["a.example", "*.a.example"], KeyPair::generate().unwrap());
        let stranger = rcgen::generate_simple_self_signed(["x.example".to_owned()]).unwrap().cert.pem();
        let expected = format!("{}{}", pki.leaf, pki.intermediate).replace("\r\n", "\n");
        let key = pki.key.serialize_pem();
        let (root, between, leaf) = (&pki.root, &pki.intermediate, &pki.leaf);
        for text in [
            format!("{leaf}{between}"),
            format!("{root}{between}{leaf}"),
            format!("words\n{between}{stranger}{key}{leaf}\n{root}"),
        ] {
            let certificate = Certificate::import(&text.replace('\n', "\r\n"), &key).unwrap();
            assert_eq!(certificate.chain_pem, expected);
            assert_eq!(certificate.names, ["a.example", "*.a.example"]);
            assert_eq!((certificate.managed, certificate.authority.as_str()), (Managed::Import, IMPORTED));
        }
        // Certificate and key in one text.
        let both = format!("{key}{leaf}");
        assert!(Certificate::import(&both, &both).is_ok());
    }

    #[test]
    fn keys_of_all_kinds_are_taken_and_told() {
        for (kind, algorithm) in [("P-384", &PKCS_ECDSA_P384_SHA384), ("RSA-2048", &PKCS_RSA_SHA256)] {
            let pki = pki(&["a.example"], KeyPair::generate_for(algorithm).unwrap());
            let certificate = Certificate::import(&pki.leaf, &pki.key.serialize_pem()).unwrap();
            assert_eq!(certificate.details().unwrap().key, kind);
        }
    }

    #[test]
    fn what_can_not_be_served_is_refused_with_the_reason() {
        let good = pki(&["a.example"], KeyPair::generate().unwrap());
        let nameless = pki(&[], KeyPair::generate().unwrap());
        let (key, other) = (good.key.serialize_pem(), KeyPair::generate().unwrap().serialize_pem());
        let fault = |chain: &str, key: &str| Certificate::import(chain, key).unwrap_err();
        assert!(matches!(fault(&good.leaf, "nonsense"), ImportError::NoKey));
        assert!(matches!(fault(&good.leaf, &other), ImportError::NoLeaf { count: 1 }));
        assert!(matches!(fault("", &key), ImportError::NoLeaf { count: 0 }));
        assert!(matches!(fault(&nameless.leaf, &nameless.key.serialize_pem()), ImportError::NoNames));
        let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(fault(&good.leaf, broken), ImportError::Certificate(CertificateError::Key)));
        let certificate = Certificate::import(&good.leaf, &key).unwrap();
        assert!(certificate.check_life(certificate.not_after).is_err());
        assert!(certificate.check_life(Timestamp::now()).is_ok());
    }
}
