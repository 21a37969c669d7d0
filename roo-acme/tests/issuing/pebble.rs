//! Pebble, the ACME test server, with a DNS server that sends every name to loopback.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use roo_acme::{AcmeConfig, Authority, Challenge, Challenges};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::eventually;

/// Where Pebble listens, and the certificate it shows there. Outlives a Pebble, so that it can be restarted.
pub(crate) struct Site {
    directory: TempDir,
    port: u16,
    management_port: u16,
    /// Where Pebble looks for answers to tls-alpn-01.
    tls_port: u16,
    root_pem: String,
    /// The external account that it asks for, if it does: the key's id and the key in base64url.
    external_account: Option<(String, String)>,
}

/// A running Pebble; killed when dropped, its log printed if the test failed.
pub(crate) struct Pebble {
    management_port: u16,
    root_pem: String,
    dns: Option<Child>,
    ca: Child,
    log: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        std::fs::write(directory.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), key.serialize_pem()).unwrap();
        let [port, management_port] = free_ports();
        Self { directory, port, management_port, tls_port: 1, root_pem: certificate.pem(), external_account: None }
    }

    /// Has Pebble look for answers to tls-alpn-01 at this port.
    pub(crate) fn with_tls_port(self, tls_port: u16) -> Self {
        Self { tls_port, ..self }
    }

    /// Has Pebble take accounts of those only who are known to it.
    pub(crate) fn with_external_account(self, key_id: &str, key: &str) -> Self {
        Self { external_account: Some((key_id.to_owned(), key.to_owned())), ..self }
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::from(self.ca())
    }

    pub(crate) fn ca(&self) -> AcmeConfig {
        AcmeConfig {
            email: Some("admin@shop.example".to_owned()),
            extra_roots_pem: Some(self.root_pem.clone().into_bytes()),
            challenges: Challenges::new([Challenge::Http01]),
            ..AcmeConfig::at(&format!("https://127.0.0.1:{}/dir", self.port))
        }
    }

    /// The same, with names proven in another way.
    pub(crate) fn authority_by(&self, challenges: Challenges) -> Authority {
        Authority::from(AcmeConfig { challenges, ..self.ca() })
    }

    /// Starts a Pebble with empty memory that validates at `http_port` and rejects `bad_nonces` percent of the
    /// nonces; returns when it answers.
    pub(crate) async fn start(&self, http_port: u16, bad_nonces: u8) -> Pebble {
        let [dns_port, dns_management_port] = free_ports();
        let dns = Command::new("pebble-challtestsrv")
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns_port}")])
            .args(["-management", &format!("127.0.0.1:{dns_management_port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(INSTALL);
        let mut pebble = self.start_asking(http_port, bad_nonces, &format!("127.0.0.1:{dns_port}"));
        pebble.dns = Some(dns);
        for port in [dns_management_port, self.port] {
            pebble.wait_for(port).await;
        }
        pebble
    }

    /// The same, asking a name server that is there already.
    pub(crate) async fn start_with_dns(&self, dns: SocketAddr, http_port: u16) -> Pebble {
        let mut pebble = self.start_asking(http_port, 0, &dns.to_string());
        pebble.wait_for(self.port).await;
        pebble
    }

    fn start_asking(&self, http_port: u16, bad_nonces: u8, dns: &str) -> Pebble {
        let path = self.directory.path();
        let log = path.join("pebble.log");
        let output = File::create(&log).unwrap();
        std::fs::write(path.join("config.json"), self.config(http_port)).unwrap();
        let ca = Command::new("pebble")
            .args(["-config", "config.json", "-dnsserver", dns])
            .current_dir(path)
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", bad_nonces.to_string())
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect(INSTALL);
        let (management_port, root_pem) = (self.management_port, self.root_pem.clone());
        Pebble { management_port, root_pem, dns: None, ca, log }
    }

    fn config(&self, http_port: u16) -> String {
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management_port),
            "certificate": "cert.pem",
            "privateKey": "key.pem",
            "httpPort": http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self.external_account.is_some(),
            "externalAccountMACKeys": BTreeMap::from_iter(self.external_account.clone()),
        }});
        config.to_string()
    }
}

impl Pebble {
    /// How many orders the CA was asked for.
    pub(crate) fn orders(&self) -> usize {
        self.log().lines().filter(|line| line.contains("Added order")).count()
    }

    /// Whether it was set up to reject so many percent of the nonces.
    pub(crate) fn rejects_nonces(&self, percent: u8) -> bool {
        self.log().contains(&format!("reject {percent}% of good nonces"))
    }

    /// What the CA says of the certificate with this serial number: `Valid` or `Revoked`.
    pub(crate) async fn revoked(&self, serial: &str) -> Option<String> {
        let path = format!("/cert-status-by-serial/{}", serial.trim_start_matches('0'));
        let answer = self.ask(&path).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
        body.get("Status")?.as_str().map(str::to_owned)
    }

    /// Asks at the management port; head and body.
    async fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.management_port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn wait_for(&mut self, port: u16) {
        eventually(&format!("Pebble at port {port}"), async || TcpStream::connect(("127.0.0.1", port)).await.ok())
            .await;
        let ended = self.ca.try_wait().unwrap();
        assert!(ended.is_none(), "pebble ended: {}", self.log());
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in [&mut self.ca].into_iter().chain(self.dns.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("Pebble's log:\n{}", std::fs::read_to_string(Path::new(&self.log)).unwrap_or_default());
        }
    }
}

/// Free ports below those that systems give to whoever asks for any, each given once: Pebble cannot choose its own.
fn free_ports() -> [u16; 2] {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Processes beside this one begin elsewhere.
    let start = std::process::id().wrapping_mul(7919) as u16;
    let next = || 10_000 + start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); 2].map(|()| (0..20_000).map(|_| next()).find(is_free).expect("some port is free"))
}

const INSTALL: &str = "these tests need Pebble: apt-get install pebble";
