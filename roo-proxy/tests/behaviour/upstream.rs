//! Upstreams: one that tells what it was asked, one that says given bytes, and hyper with any handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::bench::{Authority, loopback};
use crate::client::{Body, full};

/// An upstream that runs until dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// Connections accepted so far.
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn h2c(&self) -> String {
        format!("h2c://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Answers with a JSON document of what arrived, under a name.
    pub(crate) async fn echo(name: &'static str) -> Upstream {
        Upstream::serve(move |request| echo(name, request)).await
    }

    /// Answers through a handler.
    pub(crate) async fn serve<H, F>(handler: H) -> Upstream
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Upstream::listen(move |socket| answer(socket, handler.clone())).await
    }

    /// As `echo`, over TLS with a certificate for the names.
    pub(crate) async fn echo_tls(authority: &Authority, names: &[&str]) -> Upstream {
        Upstream::tls(authority, names, "tls", Arc::new(AtomicBool::new(true))).await
    }

    /// As `echo`, over TLS while `open`; else it closes every connection at once.
    pub(crate) async fn echo_tls_while(authority: &Authority, name: &'static str, open: Arc<AtomicBool>) -> Upstream {
        Upstream::tls(authority, &["127.0.0.1"], name, open).await
    }

    async fn tls(authority: &Authority, names: &[&str], name: &'static str, open: Arc<AtomicBool>) -> Upstream {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(authority, names)));
        Upstream::listen(move |socket| {
            let (acceptor, open) = (acceptor.clone(), open.clone());
            async move {
                if !open.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = acceptor.accept(socket).await {
                    answer(stream, move |request| echo(name, request)).await;
                }
            }
        })
        .await
    }

    /// As `echo`, over HTTP/2 in the clear.
    pub(crate) async fn echo_h2c(name: &'static str) -> Upstream {
        Upstream::listen(move |socket| answer_http2(socket, move |request| echo(name, request))).await
    }

    /// As `echo_h2c`, over TLS with a certificate for the names, and with what it offers to speak.
    pub(crate) async fn echo_h2(authority: &Authority, names: &[&str], offers: &[&[u8]]) -> Upstream {
        let mut config = server_config(authority, names);
        config.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Upstream::listen(move |socket| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    answer_http2(stream, move |request| echo("h2", request)).await;
                }
            }
        })
        .await
    }

    /// Gives each stream of HTTP/2 in the clear to a handler. The upstream allows so many at a time.
    pub(crate) async fn streams<H, F>(streams_max: u32, handler: H) -> Upstream
    where
        H: Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Upstream::listen(move |socket| {
            let handler = handler.clone();
            async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(streams_max).enable_connect_protocol();
                let Ok(mut connection) = builder.handshake(socket).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(handler(request, respond));
                }
            }
        })
        .await
    }

    /// Reads a request head, then says the bytes of its connection's turn, and closes.
    pub(crate) async fn says(answers: &'static [&'static str]) -> Upstream {
        let turn = Arc::new(AtomicUsize::new(0));
        Upstream::listen(move |mut socket| {
            let answer = answers[turn.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)];
            async move {
                read_head(&mut socket).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        })
        .await
    }

    /// Gives each connection to a handler.
    pub(crate) async fn listen<H, F>(handler: H) -> Upstream
    where
        H: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Upstream::listen_at(loopback(), handler).await
    }

    /// As `echo`, at a given address.
    pub(crate) async fn echo_at(address: SocketAddr, name: &'static str) -> Upstream {
        Upstream::listen_at(address, move |socket| answer(socket, move |request| echo(name, request))).await
    }

    /// As `echo`, on a socket of this machine. Its address has no meaning.
    pub(crate) fn echo_on_socket(listener: UnixListener, name: &'static str) -> Upstream {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(socket, move |request| echo(name, request)));
            }
        });
        Upstream { address: loopback(), connections, task }
    }

    async fn listen_at<H, F>(address: SocketAddr, handler: H) -> Upstream
    where
        H: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(handler(socket));
            }
        });
        Upstream { address, connections, task }
    }
}

fn server_config(authority: &Authority, names: &[&str]) -> rustls::ServerConfig {
    let (_, key) = authority.issue(names);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
}

/// An address that refuses: bound for as long as the tests run, so that nobody else gets it, and never listened on.
pub(crate) async fn nobody() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&loopback().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// Reads up to the empty line; the head, and what came after it.
pub(crate) async fn read_head(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn answer<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

async fn answer_http2<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn echo(name: &'static str, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let (body, trailers) = match collected {
        Ok(body) => {
            let trailers = body.trailers().cloned();
            (body.to_bytes(), trailers)
        }
        Err(_) => (Bytes::new(), None),
    };
    let fields = |headers: &http::HeaderMap| {
        let mut fields = serde_json::Map::new();
        for name in headers.keys() {
            let values: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            fields.insert(name.to_string(), values.join(" | ").into());
        }
        fields
    };
    let document = serde_json::json!({
        "name": name,
        "method": parts.method.as_str(),
        "uri": parts.uri.to_string(),
        "version": format!("{:?}", parts.version),
        "headers": fields(&parts.headers),
        "trailers": trailers.as_ref().map(fields),
        "body": String::from_utf8_lossy(&body),
    });
    Response::builder()
        .header("content-type", "application/json")
        .header("x-upstream", name)
        .body(full(document.to_string()))
        .unwrap()
}
