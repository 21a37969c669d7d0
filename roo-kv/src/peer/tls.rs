//! Certificates between nodes. Whoever has the secret can make one; nobody else can.
//!
//! From the secret follows the Ed25519 key of an authority. Each node signs a fresh certificate for itself at every
//! start, with its node id as the DNS name `<id>.node.roo`. A dialer that knows whom it wants verifies that name; one
//! that only has an address verifies [`ANY_NODE`], which every certificate carries, and then reads the id.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::error::StartError;
use crate::id::NodeId;
use crate::secret::Secret;

/// A name that every node's certificate carries.
const ANY_NODE: &str = "any.node.roo";
const NODE_SUFFIX: &str = ".node.roo";

/// The head of an Ed25519 private key in PKCS#8 (RFC 8410, section 7); the 32 bytes of the seed follow.
const ED25519_PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a node shows to peers and demands of them.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Credentials {
    /// Derives the authority and signs a certificate for this run of the node.
    pub(crate) fn new(secret: &Secret, node: NodeId) -> Result<Self, StartError> {
        Self::build(secret, node).map_err(|e| StartError::Tls { reason: e.to_string() })
    }

    fn build(secret: &Secret, node: NodeId) -> Result<Self, Box<dyn std::error::Error>> {
        let authority_key = authority_key(secret)?;
        let authority = authority_params();
        let root = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let certificate = node_params(node)?.signed_by(&key, &issuer)?;

        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone())?;
        let roots = Arc::new(roots);
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would skip the look at the other's certificate.
        client.resumption = rustls::client::Resumption::disabled();

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// The name to verify when dialing.
pub(crate) fn server_name(node: Option<NodeId>) -> ServerName<'static> {
    let name = node.map_or_else(|| ANY_NODE.to_owned(), node_name);
    ServerName::try_from(name).expect("hexadecimal digits and fixed labels make a DNS name")
}

/// Whose certificate it is. Ask only for certificates that were verified.
pub(crate) fn node_of(chain: Option<&[CertificateDer<'_>]>) -> Option<NodeId> {
    let (_, certificate) = X509Certificate::from_der(chain?.first()?).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => name.strip_suffix(NODE_SUFFIX)?.parse().ok(),
        _ => None,
    })
}

fn node_name(node: NodeId) -> String {
    format!("{node}{NODE_SUFFIX}")
}

fn authority_key(secret: &Secret) -> Result<KeyPair, rcgen::Error> {
    let mut der = Zeroizing::new(ED25519_PKCS8_HEAD.to_vec());
    der.extend_from_slice(secret.authority_seed().as_slice());
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &rcgen::PKCS_ED25519)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Roo peers");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

// Valid for good: it lives as long as the process, and the clocks of the nodes may disagree.
fn node_params(node: NodeId) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![node_name(node), ANY_NODE.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, node.to_string());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_names_its_node() {
        let secret = Secret::from_text("correct horse battery").unwrap();
        let node = NodeId(0xabc);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority_params(), authority_key(&secret).unwrap());
        let certificate = node_params(node).unwrap().signed_by(&key, &issuer).unwrap();
        assert_eq!(node_of(Some(&[certificate.der().clone()])), Some(node));
        assert_eq!(node_of(None), None);
        assert_eq!(node_of(Some(&[CertificateDer::from(vec![1, 2, 3])])), None);
        assert!(Credentials::new(&secret, node).is_ok());
    }
}
