//! Private keys and signing requests for certificates.

use std::str::FromStr;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256,
};

/// Which keys certificates have. A certificate that is there keeps its own until it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys {
    /// The kind of the key that is preferred.
    pub first: KeyKind,
    /// That of a second certificate for the same name, for clients that can't use the first.
    pub second: Option<KeyKind>,
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on the curve P-256: small, fast, and known to every client of the last ten years.
    #[default]
    P256,
    /// ECDSA on the curve P-384.
    P384,
    /// RSA with 2,048 bits, for clients older than that.
    Rsa2048,
}

/// A text that names no kind of key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no kind of key; write p256, p384 or rsa2048, or two of them as in p256+rsa2048")]
pub struct UnknownKey {
    text: String,
}

impl FromStr for Keys {
    type Err = UnknownKey;

    /// `p256`, or two kinds joined by `+`, the preferred one first.
    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey { text: text.to_owned() };
        let kind = |part: &str| match part {
            "p256" => Ok(KeyKind::P256),
            "p384" => Ok(KeyKind::P384),
            "rsa2048" => Ok(KeyKind::Rsa2048),
            _ => Err(unknown()),
        };
        match text.split_once('+') {
            None => Ok(Self { first: kind(text)?, second: None }),
            Some((first, second)) if first != second => Ok(Self { first: kind(first)?, second: Some(kind(second)?) }),
            Some(_) => Err(unknown()),
        }
    }
}

/// A new private key.
pub(crate) fn generate_pair(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(match kind {
        KeyKind::P256 => &PKCS_ECDSA_P256_SHA256,
        KeyKind::P384 => &PKCS_ECDSA_P384_SHA384,
        KeyKind::Rsa2048 => &PKCS_RSA_SHA256,
    })
}

/// A new private key, PKCS#8 PEM.
pub(crate) fn generate(kind: KeyKind) -> Result<String, KeyError> {
    Ok(generate_pair(kind)?.serialize_pem())
}

/// A signing request (RFC 2986, DER) for `name` alone, by the key in `key_pem`.
pub(crate) fn signing_request(name: &str, key_pem: &str) -> Result<Vec<u8>, KeyError> {
    let key = KeyPair::from_pem(key_pem)?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key)?.der().to_vec())
}

/// A key cannot be made, read or used; the message never quotes it.
#[derive(Debug, thiserror::Error)]
#[error("the certificate's private key or signing request cannot be made: {0}")]
pub(crate) struct KeyError(#[from] rcgen::Error);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn a_request_names_the_name_and_is_signed() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
            let key_pem = generate(kind).unwrap();
            let request = signing_request("a.example", &key_pem).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&request).unwrap();
            request.verify_signature().unwrap();
            let extensions: Vec<_> = request.requested_extensions().unwrap().collect();
            assert!(format!("{extensions:?}").contains("DNSName(\"a.example\")"));
        }
    }

    #[test]
    fn kinds_are_named_alone_or_in_pairs() {
        let keys = |text: &str| text.parse::<Keys>();
        assert_eq!(keys("p384"), Ok(Keys { first: KeyKind::P384, second: None }));
        assert_eq!(keys("p256+rsa2048"), Ok(Keys { first: KeyKind::P256, second: Some(KeyKind::Rsa2048) }));
        for wrong in ["", "rsa", "p256+p256", "p256+", "p256+p384+rsa2048", "P256"] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(signing_request("a.example", "no key").is_err());
        assert!(signing_request("\u{fc}mlaut.example", &generate(KeyKind::P256).unwrap()).is_err());
    }
}
