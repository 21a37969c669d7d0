//! Private keys and signing requests for certificates: P-256.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

/// A new private key, PKCS#8 PEM.
pub(crate) fn generate() -> Result<String, KeyError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem())
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
        let key_pem = generate().unwrap();
        let request = signing_request("a.example", &key_pem).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&request).unwrap();
        request.verify_signature().unwrap();
        let extensions: Vec<_> = request.requested_extensions().unwrap().collect();
        assert!(format!("{extensions:?}").contains("DNSName(\"a.example\")"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(signing_request("a.example", "no key").is_err());
        assert!(signing_request("\u{fc}mlaut.example", &generate().unwrap()).is_err());
    }
}
