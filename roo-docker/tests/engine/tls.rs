//! An engine on the network, before which TLS is spoken.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use roo_docker::{Config, Stopping, Tls};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier},
};
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeEngine, container_event, site, task};
use crate::watched::{PATIENCE, Watched, config, eventually};

/// A CA, and a folder with what it has signed.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca: rcgen::Certificate,
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let pki = Self { issuer: Issuer::new(params, key), ca, dir: tempfile::tempdir().unwrap() };
        pki.file("ca.pem", &pki.ca.pem());
        pki
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A certificate and its key.
    fn signed(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// What a client shows that this CA has signed, and trusts.
    fn client(&self) -> Tls {
        let (certificate, key) = self.signed("roo");
        let certificate = self.file("cert.pem", &certificate.pem());
        let key = self.file("key.pem", &key.serialize_pem());
        Tls { ca: Some(self.dir.path().join("ca.pem")), certificate: Some((certificate, key)) }
    }

    /// Passes on to the engine what comes by TLS from whoever shows a certificate of this CA.
    async fn front(&self, engine: &FakeEngine) -> SocketAddr {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let (certificate, key) = self.signed("localhost");
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let (acceptor, socket) = (TlsAcceptor::from(Arc::new(config)), engine.socket().to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                tokio::spawn(async move {
                    let mut client = acceptor.accept(stream).await.ok()?;
                    let mut engine = UnixStream::connect(socket).await.ok()?;
                    tokio::io::copy_bidirectional(&mut client, &mut engine).await.ok()
                });
            }
        });
        address
    }
}

#[tokio::test]
async fn an_engine_is_followed_by_tls_with_a_certificate() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    engine.script().tasks = vec![task("t1", "a", "running", "running", "10.0.1.1")];
    let pki = Pki::new();
    let address = pki.front(&engine).await;
    let host = format!("tcp://localhost:{}", address.port());
    let mut watched = Watched::with(&engine, |config| {
        config.host = Some(host.clone());
        config.tls = Some(pki.client());
    });
    watched.until("the task", |snapshot| snapshot.services.iter().any(|service| service.tasks.len() == 1)).await;

    let shutdown = CancellationToken::new();
    let config = Config { host: Some(host), tls: Some(pki.client()), ..config(&engine) };
    let mut stopping = roo_docker::follow_containers(config, shutdown.clone()).stopping;
    eventually("both event streams open", || engine.emit("") > 1).await;
    engine.emit(&container_event("die", "c", "t1", None));
    let told = tokio::time::timeout(PATIENCE, stopping.recv()).await.unwrap();
    assert_eq!(told, Some(Stopping { service: "a".to_owned(), task: "t1".to_owned() }));
    shutdown.cancel();
}

#[tokio::test]
async fn without_the_right_certificates_it_says_which_setting_is_at_fault() {
    let engine = FakeEngine::started(&json!([]));
    let (pki, other) = (Pki::new(), Pki::new());
    let address = pki.front(&engine).await;
    let (client, stranger) = (pki.client(), other.client());
    let absent = Some(PathBuf::from("/nowhere/ca.pem"));
    let swapped = client.certificate.clone().map(|(certificate, key)| (key, certificate));
    for (tls, told) in [
        (Tls { certificate: None, ..client.clone() }, "did not"),
        (Tls { certificate: stranger.certificate.clone(), ..client.clone() }, "did not"),
        (Tls { ca: stranger.ca.clone(), ..client.clone() }, "invalid peer certificate"),
        (Tls { ca: absent, ..client.clone() }, "--docker-ca is '/nowhere/ca.pem'"),
        (Tls { certificate: swapped, ..client.clone() }, "--docker-cert is '"),
    ] {
        let mut watched = Watched::with(&engine, |config| {
            config.host = Some(format!("tcp://localhost:{}", address.port()));
            config.tls = Some(tls);
        });
        watched.until_unreachable(told).await;
    }
    assert!(engine.script().requests.is_empty(), "nobody was let in");
    // What it speaks is told from what it does not.
    let mut watched = Watched::with(&engine, |config| config.host = Some(format!("tcp://{address}")));
    watched.until_unreachable("did not").await;
}
