//! A door before an ACME server that counts what is ordered behind it, and can keep an answer back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::LOCATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::https::Https;

/// The door; it closes when dropped.
pub struct Counter {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    book: Mutex<Book>,
    gate: watch::Sender<Gate>,
}

/// What becomes of the next answer that tells of a new order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// It is passed on.
    Open,
    /// It is to be kept back.
    Asked,
    /// One is kept back.
    Shut,
}

/// What the server has answered.
#[derive(Default)]
struct Book {
    orders: Vec<Order>,
    /// Orders made while there was another for the same names that could be completed.
    doubles: Vec<String>,
}

struct Order {
    names: Vec<String>,
    path: String,
    /// As shown last.
    status: String,
}

impl Counter {
    /// Opens a door to `server` that shows the certificate in `ca_file` with the key in `key_file`.
    pub async fn start(server: SocketAddr, client: Https, ca_file: &Path, key_file: &Path) -> Result<Self> {
        let chain = vec![CertificateDer::from_pem_file(ca_file)?];
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key_file)?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { book: Mutex::default(), gate: watch::Sender::new(Gate::Open) });
        let door = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who is killed in the middle of anything is of no interest here.
                tokio::spawn(serve(stream, acceptor.clone(), server, client.clone(), door.clone()));
            }
        });
        Ok(Self { address, shared, task })
    }

    /// For `--acme-directory`.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// How many orders were made.
    pub fn orders(&self) -> usize {
        self.book().orders.len()
    }

    /// How many orders failed.
    pub fn failed(&self) -> usize {
        self.book().orders.iter().filter(|order| order.status == "invalid").count()
    }

    /// Orders that were made although there was one for the same names that could be completed, or was.
    pub fn doubles(&self) -> Vec<String> {
        self.book().doubles.clone()
    }

    /// Keeps the next answer back that tells of a new order.
    pub fn keep_next(&self) {
        self.shared.gate.send_replace(Gate::Asked);
    }

    /// Whether an answer is kept back.
    pub fn keeps(&self) -> bool {
        *self.shared.gate.borrow() == Gate::Shut
    }

    /// Passes on what is kept back, and everything from now on.
    pub fn pass(&self) {
        self.shared.gate.send_replace(Gate::Open);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().expect("not poisoned")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, and one of its own to the server.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    server: SocketAddr,
    client: Https,
    shared: Arc<Shared>,
) -> Result<()> {
    let stream = acceptor.accept(stream).await?;
    let behind = client.connect(server, "localhost", &["http/1.1"]).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(behind)).await?;
    tokio::spawn(connection);
    let sender = Arc::new(tokio::sync::Mutex::new(sender));
    let service = service_fn(move |request| {
        let (sender, shared) = (sender.clone(), shared.clone());
        async move {
            let answer = exchange(request, &mut *sender.lock().await, &shared).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                let mut answer = Response::new(Full::from(format!("{error:#}")));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                answer
            }))
        }
    });
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
}

async fn exchange(
    request: Request<Incoming>,
    sender: &mut SendRequest<Full<Bytes>>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let (path, asked) = (head.uri.path().to_owned(), body.collect().await?.to_bytes());
    let (head, body) = sender.send_request(Request::from_parts(head, Full::from(asked.clone()))).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let location = head.headers.get(LOCATION).and_then(|url| url.to_str().ok());
    match (ordered(&asked), location) {
        (Some(names), Some(url)) if head.status == StatusCode::CREATED => {
            shared.book.lock().expect("not poisoned").order(names, url)?;
            shared.keep_if_asked().await;
        }
        _ => shared.book.lock().expect("not poisoned").shown(&path, &body),
    }
    Ok(Response::from_parts(head, Full::from(body)))
}

impl Shared {
    async fn keep_if_asked(&self) {
        let shut = |gate: &mut Gate| {
            let asked = *gate == Gate::Asked;
            if asked {
                *gate = Gate::Shut;
            }
            asked
        };
        if self.gate.send_if_modified(shut) {
            let _ = self.gate.subscribe().wait_for(|gate| *gate == Gate::Open).await;
        }
    }
}

impl Book {
    fn order(&mut self, names: Vec<String>, url: &str) -> Result<()> {
        let path = url.parse::<http::Uri>().context("an order's URL")?.path().to_owned();
        let earlier = self.orders.iter().find(|order| order.names == names && order.status != "invalid");
        if let Some(Order { path: earlier, status, .. }) = earlier {
            self.doubles.push(format!("{path} for {names:?} beside {earlier}, which is {status}"));
        }
        self.orders.push(Order { names, path, status: "pending".to_owned() });
        Ok(())
    }

    /// Takes note of an order's status.
    fn shown(&mut self, path: &str, body: &[u8]) {
        let Some(order) = self.orders.iter_mut().find(|order| order.path == path) else { return };
        let shown = serde_json::from_slice::<Value>(body).unwrap_or_default();
        if let (Some(status), Some(_)) = (shown["status"].as_str(), shown["identifiers"].as_array()) {
            status.clone_into(&mut order.status);
        }
    }
}

/// The names that a request orders a certificate for (RFC 8555 section 7.4).
fn ordered(body: &[u8]) -> Option<Vec<String>> {
    let envelope: Value = serde_json::from_slice(body).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(envelope["payload"].as_str()?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let names = payload["identifiers"].as_array()?.iter().filter_map(|name| name["value"].as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    Some(names)
}
