//! Names in all their spellings, and hellos in all their shapes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::Request;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bench::{Bench, SOON};
use crate::client::{Raw, full, get, request2, status};
use crate::upstream::Upstream;

fn config(bench: &Bench) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(bench.authority.roots())
        .with_no_client_auth()
}

/// A socket that cuts the first record it is given, the hello, into records of so many bytes.
struct Cutting {
    socket: TcpStream,
    bytes: usize,
}

impl AsyncWrite for Cutting {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, record: &[u8]) -> Poll<io::Result<usize>> {
        if self.bytes == 0 {
            return Pin::new(&mut self.socket).poll_write(context, record);
        }
        let (head, hello) = record.split_at(5);
        let mut cut = Vec::new();
        for part in hello.chunks(self.bytes) {
            cut.extend_from_slice(&head[..3]);
            cut.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            cut.extend_from_slice(part);
        }
        self.bytes = 0;
        // A new socket has room for that.
        assert_eq!(self.socket.try_write(&cut).unwrap(), cut.len());
        Poll::Ready(Ok(record.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl AsyncRead for Cutting {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buf)
    }
}

#[tokio::test]
async fn a_hello_in_many_records_is_one_hello() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    for bytes in [1, 3, 50, 1_000] {
        let socket = TcpStream::connect(bench.https).await.unwrap();
        socket.writable().await.unwrap();
        let connector = TlsConnector::from(Arc::new(config(&bench)));
        let name = ServerName::try_from("shop.test").unwrap();
        let handshake = connector.connect(name, Cutting { socket, bytes });
        let mut stream = tokio::time::timeout(SOON, handshake).await.unwrap().unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(status(&String::from_utf8_lossy(&answer)), 200, "{bytes}");
    }
}

#[tokio::test]
async fn what_is_no_hello_is_closed_at_once() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    // A message that says it is of 16 MiB, in records as long as may be.
    let long = [&[22, 3, 1, 0x40, 0, 1, 255, 255, 255][..], &vec![0; 0x3ffc]].concat();
    let odd: [(&str, Vec<u8>); 9] = [
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_vec()),
        ("SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80, 3, 0, 0x80, 7, 0, 0xc0]),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("content before the handshake", vec![23, 3, 3, 0, 1, 0]),
        ("a record of nothing", vec![22, 3, 1, 0, 0]),
        ("a record that is too long", vec![22, 3, 1, 255, 255, 1]),
        ("another message", vec![22, 3, 1, 0, 4, 2, 0, 0, 0]),
        ("a hello that says nothing", vec![22, 3, 1, 0, 4, 1, 0, 0, 0]),
        ("a hello without end", long.repeat(8)),
    ];
    for (what, bytes) in odd {
        let mut client = Raw::connect(bench.https).await;
        // It may be closed before all of it is sent.
        let _ = client.0.write_all(&bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON / 4, client.0.read_to_end(&mut answer)).await;
        // At most an alert: no hello, hence no certificate.
        assert!(read.is_ok() && matches!(answer[..], [] | [21, ..]), "{what}: {read:?} {answer:?}");
    }
    assert!(bench.tls("shop.test", &[]).await.is_ok());
}

/// Sessions of whatever name, for whatever name.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache, Mutex<usize>);

const ANY: &str = "any.test";

fn any() -> ServerName<'static> {
    ServerName::try_from(ANY).unwrap()
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(any(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&any())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        *self.1.lock().unwrap() += 1;
        self.0.set_tls12_session(any(), session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&any())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&any());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        *self.1.lock().unwrap() += 1;
        self.0.insert_tls13_ticket(any(), ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any())
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_its_own_name_alone() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("a.test:https", upstream.url()), ("b.test:https", upstream.url())]);
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let sessions = Arc::new(Careless(ClientSessionMemoryCache::new(32), Mutex::default()));
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(bench.authority.roots())
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::store(sessions.clone());
        let config = Arc::new(config);
        let mut kinds = Vec::new();
        for name in ["a.test", "a.test", "b.test"] {
            let socket = TcpStream::connect(bench.https).await.unwrap();
            let handshake = TlsConnector::from(config.clone()).connect(ServerName::try_from(name).unwrap(), socket);
            let mut stream = tokio::time::timeout(SOON, handshake).await.unwrap().unwrap();
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // The ticket comes with the answer.
            let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
            assert_eq!(status(&String::from_utf8_lossy(&answer)), 200);
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert!(*sessions.1.lock().unwrap() >= 2, "there are tickets");
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Full], "{versions:?}");
    }
}

#[tokio::test]
async fn a_name_is_one_name_however_it_is_spelled() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    let routes = ["shop.test", "b\u{fc}cher.test"].map(|name| [format!("{name}:http"), format!("{name}:https")]);
    let routes: Vec<_> = routes.iter().flatten().map(|origin| (origin.as_str(), upstream.url())).collect();
    bench.routes(&routes);
    for host in ["shop.test", "SHOP.Test", "shop.test.", "Shop.TEST.:80", "XN--BCHER-KVA.test", "xn--bcher-kva.test."] {
        assert_eq!(status(&get(bench.http, host).await), 200, "{host}");
    }
    // On the wire a name is ASCII; what is not might be read in more ways than one.
    for host in ["b\u{fc}cher.test", "shop\u{3002}test", "shop.test..", ".shop.test", "shop.test\u{ff0e}"] {
        assert_eq!(status(&get(bench.http, host).await), 400, "{host}");
    }
    for (sni, authorities) in [
        ("SHOP.test", ["shop.test", "Shop.Test.", "SHOP.TEST:443"]),
        ("XN--bcher-KVA.test", ["xn--bcher-kva.test", "Xn--Bcher-Kva.Test.", "XN--BCHER-KVA.TEST.:443"]),
    ] {
        let mut client = bench.https2(sni).await;
        for authority in authorities {
            let response = client.send_request(request2("GET", authority, "/")).await.unwrap();
            assert_eq!(response.status(), 200, "{sni} {authority}");
        }
        // The other name has a certificate of its own.
        let other = Request::get("https://other.shop.test/").body(full("")).unwrap();
        assert_ne!(client.send_request(other).await.unwrap().status(), 200);
    }
}
