//! What handshakes bring: versions, key exchange, certificates of clients, tickets.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use hyper::body::Incoming;
use roo_proxy::{Certificates, Config, TicketKeys};
use rustls::client::{ClientConnection, Resumption};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bench::{Authority, Bench, SOON, until};
use crate::client::{request1, request2, status, text};
use crate::upstream::Upstream;

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A client that shows a certificate, or none, and comes back with the tickets that it was given.
fn client(
    bench: &Bench,
    versions: &[&'static SupportedProtocolVersion],
    shows: Option<Arc<CertifiedKey>>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(bench.authority.roots());
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
    };
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// The answer to one request on a connection of its own, with what the handshake was like. Nothing if there was none.
async fn ask(
    bench: &Bench,
    config: &Arc<ClientConfig>,
    name: &'static str,
    fields: &str,
) -> Option<(String, ClientConnection)> {
    let asking = async {
        let socket = TcpStream::connect(bench.https).await.ok()?;
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector.connect(ServerName::try_from(name).unwrap(), socket).await.ok()?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n{fields}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // Whoever shows the wrong certificate may hear so only now (RFC 8446 §4.4.2.4).
        stream.read_to_end(&mut answer).await.ok()?;
        let (_, connection) = stream.into_inner();
        Some((String::from_utf8(answer).unwrap(), connection))
    };
    tokio::time::timeout(SOON, asking).await.expect("it should end")
}

/// What the upstream was told, if it was asked.
fn seen(answer: &Option<(String, ClientConnection)>) -> Option<Value> {
    let (answer, _) = answer.as_ref()?;
    assert_eq!(status(answer), 200, "{answer}");
    Some(serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).unwrap())
}

fn kind(answer: &Option<(String, ClientConnection)>) -> Option<HandshakeKind> {
    answer.as_ref()?.1.handshake_kind()
}

/// The status of a response, whose body is taken.
async fn status_of(response: impl Future<Output = hyper::Result<Response<Incoming>>>) -> u16 {
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    text(response).await;
    status
}

fn route(upstream: &Upstream, client_tls: Value) -> String {
    json!({ "to": upstream.url(), "client_tls": client_tls }).to_string()
}

/// What the upstream was told of the client's certificate.
fn told(seen: &Value) -> Option<&str> {
    assert!(seen["headers"].get("client-cert-chain").is_none());
    seen["headers"].get("client-cert")?.as_str()
}

#[tokio::test]
async fn the_key_exchange_is_safe_from_quantum_computers() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let (_, connection) = ask(&bench, &client(&bench, TLS13, None), "shop.test", "").await.unwrap();
    assert_eq!(connection.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn a_route_may_ask_for_a_newer_version() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[
        ("new.test:https", route(&upstream, json!({ "min_version": "1.3" }))),
        ("old.test:https", upstream.url()),
    ]);
    for (name, versions, is_served) in
        [("new.test", TLS12, false), ("new.test", TLS13, true), ("old.test", TLS12, true), ("old.test", TLS13, true)]
    {
        let answer = ask(&bench, &client(&bench, versions, None), name, "").await;
        assert_eq!(seen(&answer).is_some(), is_served, "{name} {versions:?}");
    }
}

#[tokio::test]
async fn a_route_may_ask_for_a_certificate() {
    let (bench, upstream, clients) = (Bench::start(), Upstream::echo("a").await, Authority::new());
    bench.routes(&[
        ("must.test:https", route(&upstream, json!({ "ca": clients.pem() }))),
        ("may.test:https", route(&upstream, json!({ "ca": clients.pem(), "optional": true }))),
        ("open.test:https", upstream.url()),
    ]);
    let (known, stranger) = (clients.issue(&["one.test"]).1, Authority::new().issue(&["one.test"]).1);
    let name_of_known = format!(":{}:", STANDARD.encode(&known.cert[0]));
    for versions in [TLS12, TLS13] {
        for (name, shows, told_of) in [
            ("must.test", None, None),
            ("must.test", Some(&stranger), None),
            ("must.test", Some(&known), Some(Some(name_of_known.as_str()))),
            ("may.test", None, Some(None)),
            ("may.test", Some(&stranger), None),
            ("may.test", Some(&known), Some(Some(&name_of_known))),
            // It is not even asked.
            ("open.test", Some(&stranger), Some(None)),
            ("open.test", Some(&known), Some(None)),
        ] {
            let config = client(&bench, versions, shows.cloned());
            // Nobody may say so of himself.
            let answer = ask(&bench, &config, name, "Client-Cert: :AAAA:\r\nclient-cert-chain: :AAAA:\r\n").await;
            let seen = seen(&answer);
            assert_eq!(seen.as_ref().map(told), told_of, "{name} {versions:?} {}", shows.is_some());
        }
    }
}

#[tokio::test]
async fn a_certificate_is_shown_every_time() {
    let (bench, upstream, clients) = (Bench::start(), Upstream::echo("a").await, Authority::new());
    bench.routes(&[
        ("must.test:https", route(&upstream, json!({ "ca": clients.pem() }))),
        ("open.test:https", upstream.url()),
    ]);
    for versions in [TLS12, TLS13] {
        let config = client(&bench, versions, Some(clients.issue(&["one.test"]).1));
        for (name, expected) in [("must.test", HandshakeKind::Full), ("open.test", HandshakeKind::Resumed)] {
            assert_eq!(kind(&ask(&bench, &config, name, "").await), Some(HandshakeKind::Full), "{name}");
            assert_eq!(kind(&ask(&bench, &config, name, "").await), Some(expected), "{name}");
        }
    }
}

#[tokio::test]
async fn another_hosts_connection_does_not_get_around_a_certificate() {
    let (bench, upstream, clients) = (Bench::start(), Upstream::echo("a").await, Authority::new());
    bench.only_routes(&[
        ("open.shop.test:https", upstream.url()),
        ("must.shop.test:https", route(&upstream, json!({ "ca": clients.pem() }))),
    ]);
    bench.control.set_certificates(Certificates::new([bench.authority.issue(&["*.shop.test"])]));
    let mut client = bench.https2("open.shop.test").await;
    for (host, expected) in [("open.shop.test", 200), ("must.shop.test", 421), ("open.shop.test", 200)] {
        let response = client.send_request(request2("GET", host, "/")).await.unwrap();
        assert_eq!(response.status(), expected, "{host}");
    }
}

#[tokio::test]
async fn a_connection_from_before_a_certificate_was_asked_for_ends() {
    let (bench, upstream, clients) = (Bench::start(), Upstream::echo("a").await, Authority::new());
    bench.routes(&[("shop.test:https", upstream.url())]);
    let (mut first, mut second) = (bench.https1("shop.test").await, bench.https2("shop.test").await);
    assert_eq!(status_of(first.send_request(request1("GET", "shop.test", "/"))).await, 200);
    assert_eq!(status_of(second.send_request(request2("GET", "shop.test", "/"))).await, 200);
    bench.only_routes(&[("shop.test:https", route(&upstream, json!({ "ca": clients.pem() })))]);
    assert_eq!(status_of(first.send_request(request1("GET", "shop.test", "/"))).await, 421);
    assert_eq!(status_of(second.send_request(request2("GET", "shop.test", "/"))).await, 421);
    until("the connection of HTTP/1 has ended", || first.is_closed()).await;
    until("the connection of HTTP/2 has ended", || second.is_closed()).await;
}

#[tokio::test]
async fn each_port_asks_for_its_own() {
    let (bench, upstream, clients) = (Bench::start(), Upstream::echo("a").await, Authority::new());
    let origin = format!("shop.test:{}:https", bench.https.port());
    bench.routes(&[
        ("shop.test:https", upstream.url()),
        (origin.as_str(), route(&upstream, json!({ "ca": clients.pem() }))),
    ]);
    let answer = |shows| async { seen(&ask(&bench, &client(&bench, TLS13, shows), "shop.test", "").await).is_some() };
    assert!(!answer(None).await);
    // The route of that port alone has asked for it.
    bench.routes(&[("shop.test:https", upstream.url())]);
    assert!(answer(None).await);
}

#[tokio::test]
async fn the_listener_asks_for_what_its_published_port_does() {
    let bench = Bench::with(Config { https_port: Some(443), ..Config::default() });
    let (upstream, clients) = (Upstream::echo("a").await, Authority::new());
    let (must, open) = (route(&upstream, json!({ "ca": clients.pem() })), upstream.url());
    let origin = format!("shop.test:{}:https", bench.https.port());
    let known = clients.issue(&["one.test"]).1;
    // That of the listener's own port is nobody's who comes by the published one.
    for (published, own, is_open) in [(&must, &open, false), (&open, &must, true)] {
        bench.routes(&[("shop.test:https", published), (origin.as_str(), own)]);
        for (shows, is_served) in [(None, is_open), (Some(known.clone()), true)] {
            let answer = ask(&bench, &client(&bench, TLS13, shows), "shop.test", "").await;
            assert_eq!(seen(&answer).is_some(), is_served, "{published}");
        }
    }
}

#[tokio::test]
async fn a_ticket_is_good_at_every_node() {
    let (first, second, upstream) = (Bench::start(), Bench::start(), Upstream::echo("a").await);
    let certificates = Certificates::new([first.authority.issue(&["shop.test"])]);
    for bench in [&first, &second] {
        bench.only_routes(&[("shop.test:https", upstream.url())]);
        bench.control.set_certificates(certificates.clone());
        bench.control.set_ticket_keys(TicketKeys::new([&[1; 32]]));
    }
    for versions in [TLS12, TLS13] {
        let config = client(&first, versions, None);
        assert_eq!(kind(&ask(&first, &config, "shop.test", "").await), Some(HandshakeKind::Full));
        assert_eq!(kind(&ask(&second, &config, "shop.test", "").await), Some(HandshakeKind::Resumed));
        // One has changed the key already, the other is to learn of it.
        second.control.set_ticket_keys(TicketKeys::new([&[2; 32], &[1; 32]]));
        first.control.set_ticket_keys(TicketKeys::new([&[1; 32], &[2; 32]]));
        for bench in [&second, &first, &second] {
            assert_eq!(kind(&ask(bench, &config, "shop.test", "").await), Some(HandshakeKind::Resumed));
        }
        second.control.set_ticket_keys(TicketKeys::new([&[3; 32]]));
        assert_eq!(kind(&ask(&second, &config, "shop.test", "").await), Some(HandshakeKind::Full));
        for bench in [&first, &second] {
            bench.control.set_ticket_keys(TicketKeys::new([&[1; 32]]));
        }
    }
}
