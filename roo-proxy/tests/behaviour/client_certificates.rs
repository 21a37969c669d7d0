//! Upstreams that want to know who asks.

use std::sync::Arc;

use roo_proxy::ClientCertificates;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use crate::bench::{Authority, Bench, until};
use crate::client::{field, get, status};
use crate::upstream::Upstream;

/// An upstream that takes those whose certificate the authority has signed, and tells them what it was.
async fn suspicious(authority: &Authority) -> Upstream {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider.clone()).build().unwrap();
    let (_, key) = authority.issue(&["backend.test"]);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Upstream::listen(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(socket).await else { return };
            let shown = seen(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref());
            let answer = format!("HTTP/1.1 200 OK\r\nX-Shown: {shown}\r\nContent-Length: 0\r\n\r\n");
            let mut bytes = [0; 4096];
            while tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await.is_ok_and(|count| count > 0) {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// What tells one certificate from another.
fn seen(certificate: &[u8]) -> String {
    certificate.iter().rev().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn shown(key: &CertifiedKey) -> String {
    seen(key.cert[0].as_ref())
}

#[tokio::test]
async fn a_route_shows_the_certificate_that_it_names() {
    let bench = Bench::start();
    let upstream = suspicious(&bench.authority).await;
    let tls = serde_json::json!({
        "ca": bench.authority.pem(), "server_name": "backend.test", "client_certificate": "shop",
    });
    let route = serde_json::json!({"to": format!("https://{}", upstream.address), "tls": tls}).to_string();
    bench.routes(&[("shop.test:http", route)]);
    // There is none of the name yet.
    let answer = get(bench.http, "shop.test").await;
    assert_eq!((status(&answer), field(&answer, "roo-error")), (502, Some("upstream-tls")));
    let (first, second) = (bench.authority.issue(&["one.test"]).1, bench.authority.issue(&["two.test"]).1);
    for key in [first, second] {
        let others = bench.authority.issue(&["other.test"]).1;
        let all = [("other".to_owned(), others), ("shop".to_owned(), key.clone())];
        bench.control.set_client_certificates(ClientCertificates::new(all));
        // It is shown from the next request on: no connection of the former one takes any.
        for _ in 0..3 {
            let answer = get(bench.http, "shop.test").await;
            assert_eq!((status(&answer), field(&answer, "x-shown")), (200, Some(shown(&key).as_str())), "{answer}");
        }
    }
    bench.control.set_client_certificates(ClientCertificates::default());
    assert_eq!(field(&get(bench.http, "shop.test").await, "roo-error"), Some("upstream-tls"));
    until("nothing is under way", || bench.control.stats().requests == 0).await;
}
