//! The API's port: many connections, each with limits, so that no client can hold more than its place.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::stall::{Answers, Unstalled};
use super::tls::{self, ApiTls};

/// Connections at a time; those beyond are closed at once. Watchers keep theirs for long.
const CONNECTIONS_MAX: usize = 20_000;
/// How long a client may take for a handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent: of all of it, or on HTTP/2 of one answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// An HTTP/2 connection is asked whether it lives, and given up if it does not answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What a connection of HTTP/2 begins with; no method of HTTP/1.1 does.
const PREFACE: &[u8; 4] = b"PRI ";
/// Between looks at a connection that began with less.
const PEEK_PAUSE: Duration = Duration::from_millis(10);
/// After `accept` has failed, usually because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets open requests finish.
pub(super) async fn serve(listener: TcpListener, server: Server, shutdown: CancellationToken) {
    let (places, open) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), GracefulShutdown::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (server, watcher) = (server.clone(), open.watcher());
        tokio::spawn(async move {
            server.serve(stream, peer, watcher).await;
            drop(place);
        });
    }
    open.shutdown().await;
}

/// Whether a request came over TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct OverTls(pub(super) bool);

/// How connections are served.
#[derive(Clone)]
pub(super) struct Server {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    router: Router,
    tls: Option<Tls>,
}

/// For an API over TLS.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) certificate: ApiTls,
    /// Answers those who do not speak TLS.
    pub(super) refusal: Router,
}

impl Server {
    pub(super) fn new(router: Router, tls: Option<Tls>) -> Self {
        let mut http1 = Builder::new(TokioExecutor::new()).http1_only();
        http1.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX as usize);
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX);
        Self { http1, http2, router, tls }
    }

    /// Serves one connection to its end. How it ended is of interest to its client alone.
    async fn serve(self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        let Some(tls) = self.tls.clone() else {
            let router = self.router.clone();
            return self.serve_plain(router, stream, peer, watcher).await;
        };
        let Ok(Ok(speaks_tls)) = tokio::time::timeout(HEAD_TIMEOUT, tls::speaks_tls(&stream)).await else { return };
        if !speaks_tls {
            return self.serve_plain(tls.refusal, stream, peer, watcher).await;
        }
        if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIMEOUT, tls.certificate.accept(stream)).await {
            let http2 = tls::agreed_on_http2(&stream);
            self.answer(http2, self.router.clone(), stream, (peer, OverTls(true)), watcher).await;
        }
    }

    async fn serve_plain(&self, router: Router, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        if let Ok(Ok(http2)) = tokio::time::timeout(HEAD_TIMEOUT, speaks_http2(&stream)).await {
            self.answer(http2, router, stream, (peer, OverTls(false)), watcher).await;
        }
    }

    async fn answer<S>(&self, http2: bool, router: Router, stream: S, from: (SocketAddr, OverTls), watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = if http2 { &self.http2 } else { &self.http1 };
        let stream = TokioIo::new(Unstalled::new(stream, STALL_TIMEOUT));
        let answers = Answers::default();
        let watched = http2.then(|| answers.clone());
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (peer, over_tls) = from;
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(over_tls);
            let (answering, watched) = (router.call(request), watched.clone());
            async move {
                let response = answering.await?;
                Ok::<_, Infallible>(match watched {
                    Some(answers) => response.map(|body| answers.watch(body)),
                    None => response,
                })
            }
        });
        let serving = watcher.watch(builder.serve_connection_with_upgrades(stream, service).into_owned());
        if http2 {
            tokio::select! {
                _ = serving => {}
                () = answers.stalled(STALL_TIMEOUT) => {}
            }
        } else {
            let _ = serving.await;
        }
    }
}

/// Whether a connection begins as HTTP/2 with prior knowledge does (RFC 9113, section 3.4). Takes nothing from it.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let read = stream.peek(&mut start).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if read == PREFACE.len() || !PREFACE.starts_with(&start[..read]) {
            return Ok(start == *PREFACE);
        }
        // The rest is on its way, or never comes: then the caller loses patience.
        tokio::time::sleep(PEEK_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::stream;
    use http::Response;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::*;

    /// Writes for ever, and is held for as long.
    fn endless(held: &Arc<()>) -> Server {
        let holder = Arc::clone(held);
        let endless = move || {
            let held = Arc::clone(&holder);
            let pieces = stream::repeat_with(move || {
                let _held = &held;
                Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1000]))
            });
            async { Body::from_stream(pieces) }
        };
        Server::new(Router::new().route("/", get(endless)), None)
    }

    /// Serves a connection to its end.
    async fn answer(server: Server, http2: bool, stream: DuplexStream) {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let router = server.router.clone();
        server.answer(http2, router, stream, (peer, OverTls(false)), GracefulShutdown::new().watcher()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_cut_and_its_answer_dropped() {
        let held = Arc::new(());
        let (stream, mut client) = tokio::io::duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.expect("sent");
        answer(endless(&held), false, stream).await;
        assert_eq!(Arc::strong_count(&held), 1, "the answer is still held");
    }

    /// Asks for it over HTTP/2, and keeps the connection alive.
    async fn ask_over_http2(client: DuplexStream) -> Response<Incoming> {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::get("http://api/").body(Body::empty()).expect("a request");
        sender.send_request(request).await.expect("an answer")
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_http2_that_takes_nothing_of_an_answer_is_cut_and_its_answer_dropped() {
        let held = Arc::new(());
        let (stream, client) = tokio::io::duplex(4096);
        let serving = tokio::spawn(answer(endless(&held), true, stream));
        let answer = ask_over_http2(client).await;
        serving.await.expect("it was served");
        drop(answer);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_http2_that_takes_an_answer_slowly_is_served() {
        let held = Arc::new(());
        let (stream, client) = tokio::io::duplex(4096);
        let serving = tokio::spawn(answer(endless(&held), true, stream));
        let mut answer = ask_over_http2(client).await;
        let begin = Instant::now();
        while begin.elapsed() < 5 * STALL_TIMEOUT {
            let frame = answer.frame().await.expect("it goes on").expect("it is served");
            drop(frame);
            tokio::time::sleep(STALL_TIMEOUT / 1000).await;
        }
        assert!(!serving.is_finished());
    }
}
