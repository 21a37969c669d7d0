//! What answers a tls-alpn-01 challenge (RFC 8737).

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

/// Chain and private key, both PEM, for the handshake in which a CA is shown `key_authorization` for `name`
/// (RFC 8737 section 3). Its key is made for it: each node may show one of its own.
///
/// # Errors
/// When `name` is no DNS name.
pub fn tls_alpn_certificate(name: &str, key_authorization: &str) -> Result<(String, String), TlsAlpnError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let digest = digest(&SHA256, key_authorization.as_bytes());
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest.as_ref()));
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate can be made that answers the tls-alpn-01 challenge: {0}")]
pub struct TlsAlpnError(#[from] rcgen::Error);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn it_is_what_the_standard_asks_for() {
        let (chain, _) = tls_alpn_certificate("shop.example", "token.thumbprint").unwrap();
        let (_, pem) = parse_x509_pem(chain.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        certificate.verify_signature(None).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::DNSName("shop.example")]);
        let identifier = certificate.extensions().iter().find(|found| found.oid.to_string() == "1.3.6.1.5.5.7.1.31");
        let identifier = identifier.unwrap();
        assert!(identifier.critical);
        // An OCTET STRING of 32 bytes.
        let digest = digest(&SHA256, b"token.thumbprint");
        assert_eq!(identifier.value, [&[4, 32], digest.as_ref()].concat());
    }

    #[test]
    fn what_is_no_name_has_none() {
        assert!(tls_alpn_certificate("\u{fc}mlaut.example", "a").is_err());
    }
}
