//! Clients: bytes over plain sockets where the bytes matter, hyper elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bench::{Bench, SOON};

pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body whose frames come through a channel.
pub(crate) fn streamed() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let frame = receiver.recv().await?;
        Some((Ok(frame), receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(Box::pin(frames) as SyncFrames)))
}

type SyncFrames = std::pin::Pin<Box<dyn futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> + Send + Sync>>;

pub(crate) fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// A plain connection, spoken to in bytes.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Raw {
        Raw(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// All until the proxy closes.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset after the last byte is an end as well.
        let _ = tokio::time::timeout(SOON, self.0.read_to_end(&mut bytes)).await.expect("the proxy should close");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Until `end` was read.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let reading = async {
            while !text.contains(end) {
                let mut bytes = [0; 1024];
                match self.0.read(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("the proxy should answer");
        assert!(text.contains(end), "{end:?} is not in {text:?}");
        text
    }
}

/// Sends one request in bytes and reads until the proxy closes; the request should ask for that.
pub(crate) async fn raw(address: SocketAddr, text: &str) -> String {
    let mut raw = Raw::connect(address).await;
    raw.send(text).await;
    raw.rest().await
}

/// `GET /` for a host, plain, as bytes.
pub(crate) async fn get(address: SocketAddr, host: &str) -> String {
    raw(address, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

/// The status of a response in bytes.
pub(crate) fn status(response: &str) -> u16 {
    response.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{response:?}"))
}

/// The value of a field of a response in bytes.
pub(crate) fn field<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value)
    })
}

impl Bench {
    /// A TLS handshake for a name, offering the protocols given.
    pub(crate) async fn tls(&self, name: &str, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_by(rustls::crypto::aws_lc_rs::default_provider(), name, protocols).await
    }

    /// As [`Bench::tls`], with the cipher suites that the provider has, in its order.
    pub(crate) async fn tls_by(
        &self,
        provider: CryptoProvider,
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.https).await.unwrap();
        self.handshake(socket, provider, name, protocols).await
    }

    /// As [`Bench::tls`], on a connection that is there already.
    pub(crate) async fn tls_on(
        &self,
        socket: TcpStream,
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.handshake(socket, rustls::crypto::aws_lc_rs::default_provider(), name, protocols).await
    }

    async fn handshake(
        &self,
        socket: TcpStream,
        provider: CryptoProvider,
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, socket);
        tokio::time::timeout(SOON, handshake).await.expect("the handshake should end")
    }

    /// An HTTP/1.1 connection over TLS.
    pub(crate) async fn https1(&self, name: &str) -> http1::SendRequest<Body> {
        let stream = self.tls(name, &[b"http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 connection over TLS.
    pub(crate) async fn https2(&self, name: &str) -> http2::SendRequest<Body> {
        let stream = self.tls(name, &[b"h2", b"http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// An HTTP/1.1 connection in the clear.
    pub(crate) async fn http1(&self) -> http1::SendRequest<Body> {
        let socket = TcpStream::connect(self.http).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }
}

/// A request without a body, in the form that HTTP/1.1 wants.
pub(crate) fn request1(method: &str, host: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", host).body(full("")).unwrap()
}

/// A request without a body, in the form that HTTP/2 wants.
pub(crate) fn request2(method: &str, host: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(format!("https://{host}{path}")).body(full("")).unwrap()
}

/// The whole body as text.
pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = tokio::time::timeout(SOON, response.into_body().collect()).await.expect("the body should end");
    String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
}

/// What the echoing upstream saw.
pub(crate) async fn json(response: Response<Incoming>) -> serde_json::Value {
    let text = text(response).await;
    serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"))
}
