//! A TLS client that trusts a given root and may ask for any name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::api::{Answer, exchange};

/// A client that trusts one root.
#[derive(Clone)]
pub struct Https {
    config: Arc<ClientConfig>,
}

impl Https {
    /// Trusts the certificates in `pem`.
    pub fn trusting(pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config) })
    }

    /// The same, coming back with the tickets it is given from now on.
    pub fn returning(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(8);
        Self { config: Arc::new(config) }
    }

    /// How the handshake of one request ended: whole or resumed.
    pub async fn handshake(&self, address: SocketAddr, name: &str) -> Result<HandshakeKind> {
        let mut stream = self.connect(address, name, &["http/1.1"]).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        // Tickets come with the answer.
        tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut Vec::new())).await??;
        stream.get_ref().1.handshake_kind().context("no handshake")
    }

    /// Opens a connection to `address` with `name` as SNI and the ALPN protocols given.
    pub async fn connect(&self, address: SocketAddr, name: &str, alpn: &[&str]) -> Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?, name, alpn).await
    }

    /// As [`connect`](Self::connect) over a socket of one's own.
    pub async fn over(&self, stream: TcpStream, name: &str, alpn: &[&str]) -> Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned())?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = tokio::time::timeout(Duration::from_secs(40), handshake).await.context("handshake timed out")?;
        stream.context("handshake")
    }

    /// One HTTP/1.1 request.
    pub async fn send(&self, address: SocketAddr, name: &str, request: Request<Bytes>) -> Result<Answer> {
        let stream = self.connect(address, name, &["http/1.1"]).await?;
        let answer = exchange(stream, request);
        tokio::time::timeout(Duration::from_secs(60), answer).await.context("no answer within 60 s")?
    }

    /// `GET path` from `name` over HTTP/1.1.
    pub async fn get(&self, address: SocketAddr, name: &str, path: &str) -> Result<Answer> {
        self.send(address, name, super::api::request(http::Method::GET, name, path, "")).await
    }

    /// One HTTP/2 request; `request` has an absolute URI.
    pub async fn send_h2(&self, address: SocketAddr, name: &str, request: Request<Bytes>) -> Result<Answer> {
        let stream = self.connect(address, name, &["h2"]).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }
}
