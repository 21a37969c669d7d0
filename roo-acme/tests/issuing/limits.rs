//! A CA that refuses new orders in ways that Pebble does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roo_acme::{AcmeConfig, Attempts, Authority};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::eventually;
use crate::node::Node;
use crate::vault::Cluster;

#[tokio::test]
async fn retry_after_of_a_limit_is_obeyed() {
    let (attempts, orders) = failure_at(Answer {
        status: 429,
        retry_after: "7200",
        body: r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}"#,
    })
    .await;
    assert_eq!((attempts.failures, attempts.refusals), (1, 1));
    assert!(attempts.last_error.contains("too many certificates"), "{}", attempts.last_error);
    assert!(waits(&attempts) >= 7195, "{attempts:?}");
    assert_eq!(orders, 1, "a limit is not tried again");
}

#[tokio::test]
async fn a_server_in_trouble_is_not_a_refusal() {
    let (attempts, _) = failure_at(Answer { status: 502, retry_after: "", body: "<html>Bad Gateway</html>" }).await;
    assert_eq!((attempts.failures, attempts.refusals), (1, 0));
    assert!(attempts.last_error.contains("status 502"), "{}", attempts.last_error);
    assert!(waits(&attempts) < 30, "{attempts:?}");
}

#[tokio::test]
async fn a_page_instead_of_acme_is_named() {
    let (attempts, _) = failure_at(Answer { status: 404, retry_after: "", body: "<html>Not Found</html>" }).await;
    assert!(attempts.last_error.contains("without an ACME problem"), "{}", attempts.last_error);
}

/// How the CA answers new orders.
#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    retry_after: &'static str,
    body: &'static str,
}

/// The failure that is stored when new orders are answered so, and how many were asked for.
async fn failure_at(answer: Answer) -> (Attempts, usize) {
    let cluster = Cluster::new();
    let ca = Ca::start(answer).await;
    let node = Node::start(&cluster, ca.authority.clone());
    cluster.want(&["shop.example"]);
    let attempts = eventually("a failure", async || cluster.attempts("shop.example")).await;
    node.stop().await;
    (attempts, ca.orders.load(Ordering::SeqCst))
}

fn waits(attempts: &Attempts) -> i64 {
    attempts.next_at.as_second() - attempts.last_at.as_second()
}

/// The CA; stops when dropped.
struct Ca {
    authority: Authority,
    orders: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Ca {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let (root_pem, tls) = identity();
        let orders = Arc::new(AtomicUsize::new(0));
        let authority = Authority::from(AcmeConfig {
            extra_roots_pem: Some(root_pem.into_bytes()),
            ..AcmeConfig::at(&format!("{base}/directory"))
        });
        let counter = orders.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, base, counter) = (tls.clone(), base.clone(), counter.clone());
                tokio::spawn(async move {
                    let stream = tls.accept(stream).await.unwrap();
                    let service = service_fn(|request: Request<Incoming>| {
                        let response = respond(request.uri().path(), &base, answer, &counter);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { authority, orders, task }
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn respond(path: &str, base: &str, answer: Answer, orders: &AtomicUsize) -> Response<String> {
    let response = Response::builder().header("replay-nonce", "bm9uY2U");
    let response = match path {
        "/directory" => response
            .body(format!(r#"{{"newNonce":"{base}/nonce","newAccount":"{base}/account","newOrder":"{base}/order"}}"#)),
        "/nonce" => response.body(String::new()),
        "/account" => response.status(201).header("location", format!("{base}/account/1")).body("{}".to_owned()),
        _ => {
            orders.fetch_add(1, Ordering::SeqCst);
            let response = response.status(answer.status).header("retry-after", answer.retry_after);
            response.body(answer.body.to_owned())
        }
    };
    response.unwrap()
}

fn identity() -> (String, TlsAcceptor) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}
