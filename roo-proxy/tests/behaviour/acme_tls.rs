//! tls-alpn-01: what a CA is shown, and nobody else.

use std::time::Duration;

use roo_proxy::{Certificates, TlsAnswer, TlsAnswers};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;

use crate::bench::{Bench, SOON, until};
use crate::upstream::Upstream;

const CA: &[&[u8]] = &[b"acme-tls/1"];

/// Has a challenge of `name` pending.
fn pending(bench: &Bench, name: &str) -> CertificateDer<'static> {
    let (chain, key) = bench.authority.issue_pem(&[name]);
    let answer = TlsAnswer::from_pem(&chain, &key).unwrap();
    bench.control.set_tls_answers(TlsAnswers::new([(name.parse().unwrap(), answer)]));
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

/// What clients offer that are no CA.
fn protocols() -> [&'static [&'static [u8]]; 5] {
    [&[], &[b"http/1.1"], &[b"h2", b"http/1.1"], &[b"acme-tls/1", b"http/1.1"], &[b"h2", b"acme-tls/1"]]
}

fn refused_protocol(fault: &std::io::Error) -> bool {
    fault.to_string().contains("NoApplicationProtocol")
}

#[tokio::test]
async fn a_pending_challenge_is_answered_without_a_certificate_and_the_connection_closed() {
    let mut bench = Bench::start();
    bench.only_routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    let shown = pending(&bench, "shop.test");
    let mut stream = bench.tls("shop.test", CA).await.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(session.peer_certificates().unwrap()[0], shown);
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
    let told = tokio::time::timeout(Duration::ZERO, bench.events.next()).await;
    assert!(told.is_err(), "nobody asked for a certificate: {told:?}");
}

#[tokio::test]
async fn nobody_else_is_shown_the_answer() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.only_routes(&[("shop.test:https", upstream.url())]);
    let answer = pending(&bench, "shop.test");
    let own = bench.authority.issue(&["shop.test"]);
    let leaf = own.1.cert[0].clone();
    bench.control.set_certificates(Certificates::new([own]));
    for offered in protocols() {
        let stream = bench.tls("shop.test", offered).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.peer_certificates().unwrap()[0], leaf, "{offered:?}");
        assert_ne!(session.alpn_protocol(), Some(&b"acme-tls/1"[..]), "{offered:?}");
    }
    let stream = bench.tls("shop.test", CA).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], answer);
}

#[tokio::test]
async fn a_name_without_a_pending_challenge_is_refused_whatever_it_has() {
    let bench = Bench::start();
    bench.only_routes(&[("shop.test:https", "http://127.0.0.1:1"), ("b.shop.test:https", "http://127.0.0.1:1")]);
    bench.control.set_certificates(Certificates::new([bench.authority.issue(&["shop.test", "*.shop.test"])]));
    pending(&bench, "other.test");
    for name in ["shop.test", "b.shop.test", "unknown.test", "127.0.0.1"] {
        let fault = bench.tls(name, CA).await.unwrap_err();
        assert!(refused_protocol(&fault), "{name}: {fault}");
    }
    // The challenge is over.
    bench.control.set_tls_answers(TlsAnswers::default());
    assert!(refused_protocol(&bench.tls("other.test", CA).await.unwrap_err()));
}

#[tokio::test]
async fn a_ca_faster_than_the_last_step_of_the_answer_waits_for_it() {
    let bench = Bench::start();
    bench.only_routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    let arriving = async {
        until("it waits", || bench.control.stats().tls_answer_waiters == 1).await;
        // Others first: they do not end the wait. Once theirs is shown, the one worker has seen to both.
        pending(&bench, "other.test");
        bench.tls("other.test", CA).await.unwrap();
        until("it alone waits", || bench.control.stats().tls_answer_waiters == 1).await;
        pending(&bench, "shop.test")
    };
    let (stream, shown) = tokio::join!(bench.tls("shop.test", CA), arriving);
    assert_eq!(stream.unwrap().get_ref().1.peer_certificates().unwrap()[0], shown);
}
