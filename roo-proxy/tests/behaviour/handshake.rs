//! What happens before HTTP.

use std::time::Duration;

use roo_proxy::{Certificates, Config, Event, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Bench, SOON, hasty, until};
use crate::client::request1;
use crate::upstream::Upstream;

fn is_unrecognized(fault: &std::io::Error) -> bool {
    fault.to_string().contains("UnrecognizedName") || fault.to_string().contains("UnrecognisedName")
}

#[tokio::test]
async fn an_unknown_name_ends_at_the_handshake_without_an_event() {
    let mut bench = Bench::start();
    bench.routes(&[("shop.test:https", "http://127.0.0.1:1"), ("plain.test:http", "http://127.0.0.1:1")]);
    for name in ["other.test", "shop.test.evil", "plain.test"] {
        let fault = bench.tls(name, &[]).await.unwrap_err();
        assert!(is_unrecognized(&fault), "{name}: {fault}");
    }
    // An address instead of a name is sent without SNI.
    let fault = bench.tls("127.0.0.1", &[]).await.unwrap_err();
    assert!(is_unrecognized(&fault), "{fault}");
    // Events are queued before the alert goes out, so that one would be here by now.
    assert!(tokio::time::timeout(Duration::ZERO, bench.events.next()).await.is_err());
}

#[tokio::test]
async fn a_routed_name_waits_for_its_certificate() {
    let (mut bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.only_routes(&[("shop.test:https", upstream.url())]);
    let waiting = async { bench.https1("shop.test").await };
    let control = bench.control.clone();
    let arriving = async {
        until("the handshake waits", || control.stats().certificate_waiters == 1).await;
        // A snapshot without the name does not end the wait.
        control.set_certificates(Certificates::new([bench.authority.issue(&["other.test"])]));
        control.set_certificates(Certificates::new([bench.authority.issue(&["shop.test"])]));
    };
    let (mut client, ()) = tokio::join!(waiting, arriving);
    let response = client.send_request(request1("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(response.status(), 200);
    let event = tokio::time::timeout(SOON, bench.events.next()).await.unwrap();
    assert_eq!(event, Some(Event::CertificateWanted { name: "shop.test".parse().unwrap() }));
    assert_eq!(bench.control.stats().certificate_waiters, 0);
}

#[tokio::test]
async fn the_wait_is_bounded() {
    let bench = Bench::with(Config { certificate_wait: Duration::from_millis(50), ..Config::default() });
    bench.only_routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    assert!(is_unrecognized(&bench.tls("shop.test", &[]).await.unwrap_err()));
}

#[tokio::test]
async fn the_number_of_waiters_is_bounded() {
    let limits = Limits { certificate_waiters: 1, ..Limits::default() };
    let mut bench = Bench::with(Config { limits, ..Config::default() });
    bench.only_routes(&[("a.test:https", "http://127.0.0.1:1"), ("b.test:https", "http://127.0.0.1:1")]);
    let control = bench.control.clone();
    let first = bench.tls("a.test", &[]);
    let second = async {
        until("the first waits", || control.stats().certificate_waiters == 1).await;
        let fault = bench.tls("b.test", &[]).await.unwrap_err();
        control.set_certificates(Certificates::new([bench.authority.issue(&["a.test"])]));
        fault
    };
    let (first, fault) = tokio::join!(first, second);
    assert!(is_unrecognized(&fault));
    assert!(first.is_ok());
    // The one turned away has told its wish all the same.
    for name in ["a.test", "b.test"] {
        let event = tokio::time::timeout(SOON, bench.events.next()).await.unwrap();
        assert_eq!(event, Some(Event::CertificateWanted { name: name.parse().unwrap() }));
    }
}

#[tokio::test]
async fn one_route_does_not_take_the_places_of_all() {
    let bench = Bench::start();
    bench.only_routes(&[("*.wild.test:https", "http://127.0.0.1:1"), ("shop.test:https", "http://127.0.0.1:1")]);
    let waiting = |count| {
        let control = bench.control.clone();
        async move { until("the handshakes wait", || control.stats().certificate_waiters == count).await }
    };
    let names: Vec<String> = (0..64).map(|number| format!("x{number}.wild.test")).collect();
    let many = futures_util::future::join_all(names.iter().map(|name| bench.tls(name, &[])));
    let others = async {
        waiting(64).await;
        let one_more = bench.tls("y.wild.test", &[]).await.unwrap_err();
        // An unrelated change of the table does not forget who waits.
        bench.only_routes(&[("*.wild.test:https", "http://127.0.0.1:1"), ("shop.test:https", "http://127.0.0.1:2")]);
        let still_one_more = bench.tls("z.wild.test", &[]).await.unwrap_err();
        assert!(is_unrecognized(&one_more) && is_unrecognized(&still_one_more));
        let arriving = async {
            waiting(65).await;
            bench.control.set_certificates(Certificates::new([bench.authority.issue(&["shop.test", "*.wild.test"])]));
        };
        let (of_other_route, ()) = tokio::join!(bench.tls("shop.test", &[]), arriving);
        assert!(of_other_route.is_ok());
    };
    let (many, ()) = tokio::join!(many, others);
    assert!(many.iter().all(Result::is_ok));
    waiting(0).await;
}

#[tokio::test]
async fn a_wildcard_certificate_will_do_and_an_exact_one_is_preferred() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.only_routes(&[("a.shop.test:https", upstream.url()), ("b.shop.test:https", upstream.url())]);
    let wildcard = bench.authority.issue(&["*.shop.test"]);
    let exact = bench.authority.issue(&["b.shop.test"]);
    let leafs = [wildcard.1.cert[0].clone(), exact.1.cert[0].clone()];
    bench.control.set_certificates(Certificates::new([wildcard, exact]));
    for (name, leaf) in ["a.shop.test", "b.shop.test"].into_iter().zip(leafs) {
        let stream = bench.tls(name, &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], leaf);
    }
}

#[tokio::test]
async fn half_a_hello_is_not_waited_for() {
    let mut timeouts = hasty();
    timeouts.handshake = Duration::from_millis(100);
    let bench = Bench::with(Config { timeouts, ..Config::default() });
    let mut socket = TcpStream::connect(bench.https).await.unwrap();
    socket.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, socket.read_to_end(&mut rest)).await.expect("the proxy should close");
    until("the connection is gone", || bench.control.stats().connections == 0).await;
}

#[tokio::test]
async fn protocols_without_common_ground_are_refused() {
    let bench = Bench::start();
    bench.routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    assert!(bench.tls("shop.test", &[b"spdy/3"]).await.is_err());
    // No offer at all is HTTP/1.1.
    assert!(bench.tls("shop.test", &[]).await.is_ok());
}

#[tokio::test]
async fn the_cipher_suite_suits_both_ends() {
    use rustls::CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let bench = Bench::start();
    bench.routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    for (offered, expected) in [
        (
            vec![TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256],
            TLS13_AES_128_GCM_SHA256,
        ),
        (vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256], TLS13_CHACHA20_POLY1305_SHA256),
        (vec![TLS13_AES_256_GCM_SHA384], TLS13_AES_256_GCM_SHA384),
    ] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| offered.contains(&suite.suite()));
        provider.cipher_suites.sort_by_key(|suite| offered.iter().position(|offered| *offered == suite.suite()));
        let stream = bench.tls_by(provider, "shop.test", &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite(), expected);
    }
}
