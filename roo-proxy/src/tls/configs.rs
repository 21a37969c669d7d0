//! The configurations of handshakes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SupportedProtocolVersion};

use super::policy::{TlsPolicy, TlsVersion};
use super::tickets::Tickets;
use crate::certificate::Certificates;
use crate::name;

/// What all handshakes have in common.
pub(crate) struct Common {
    /// The certificate is looked up by name in the snapshot.
    pub(crate) certificates: Arc<ArcSwap<Certificates>>,
    pub(crate) tickets: Arc<Tickets>,
}

/// The configurations of handshakes under one policy.
pub(crate) struct Configs {
    /// For most clients: AES-128 first, since SHA-256 makes its handshake a third cheaper than SHA-384 that of AES-256.
    ours: Arc<ServerConfig>,
    /// For clients that like ChaCha20 best, having no instructions for AES: what they like.
    theirs: Arc<ServerConfig>,
}

impl Configs {
    /// # Errors
    ///
    /// If the policy's certificates can't be used.
    pub(crate) fn new(common: &Common, policy: &TlsPolicy) -> Result<Configs, rustls::Error> {
        let provider = Arc::new(provider());
        let verifier = policy.verifier(provider.clone())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(policy.min_version))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(FromSnapshot(common.certificates.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption by tickets alone: nothing to store per client. rustls binds each to its server name.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // A client that must show a certificate shows it every time: resumption would go on trusting one that has ended,
        // and a ticket from a route that asks for none would do as well.
        if policy.ca.is_none() {
            config.ticketer = common.tickets.clone();
            config.send_tls13_tickets = 1;
        }
        let theirs = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Configs { ours: Arc::new(config), theirs })
    }

    pub(super) fn of(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        // Clients of some browsers put a made-up suite first (RFC 8701).
        let likes_best = hello.cipher_suites().iter().find(|suite| !matches!(suite, CipherSuite::Unknown(_)));
        if likes_best.is_some_and(|suite| is_chacha(*suite)) { self.theirs.clone() } else { self.ours.clone() }
    }
}

fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
    provider
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    match min {
        TlsVersion::Tls12 => rustls::DEFAULT_VERSIONS,
        TlsVersion::Tls13 => ONLY_13,
    }
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[derive(Debug)]
struct FromSnapshot(Arc<ArcSwap<Certificates>>);

impl ResolvesServerCert for FromSnapshot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = name::normal(hello.server_name()?).ok()?;
        self.0.load().find_normal(&name).map(|served| served.key_for(hello.signature_schemes()).clone())
    }
}
