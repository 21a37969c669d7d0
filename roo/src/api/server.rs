//! The API's port: many connections, each with limits, so that no client can hold more than its place.

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

use super::stall::Unstalled;
use super::tls::{self, ApiTls};

/// Connections at a time; those beyond are closed at once. Watchers keep theirs for long.
const CONNECTIONS_MAX: usize = 20_000;
/// How long a client may take for a handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent.
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
            let builder = if tls::agreed_on_http2(&stream) { &self.http2 } else { &self.http1 };
            answer(builder, self.router.clone(), stream, peer, watcher).await;
        }
    }

    async fn serve_plain(&self, router: Router, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        if let Ok(Ok(http2)) = tokio::time::timeout(HEAD_TIMEOUT, speaks_http2(&stream)).await {
            let builder = if http2 { &self.http2 } else { &self.http1 };
            answer(builder, router, stream, peer, watcher).await;
        }
    }
}

async fn answer<S>(builder: &Builder<TokioExecutor>, router: Router, stream: S, peer: SocketAddr, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let stream = TokioIo::new(Unstalled::new(stream, STALL_TIMEOUT));
    let serving = builder.serve_connection_with_upgrades(stream, service).into_owned();
    let _ = watcher.watch(serving).await;
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Writes for ever; what waits for the client is a bounded amount, and it ends with the connection.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_cut_and_its_answer_dropped() {
        let held = Arc::new(());
        let holder = Arc::clone(&held);
        let endless = move || {
            let held = Arc::clone(&holder);
            let pieces = stream::repeat_with(move || {
                let _held = &held;
                Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1000]))
            });
            async { Body::from_stream(pieces) }
        };
        let server = Server::new(Router::new().route("/", get(endless)), None);
        let (stream, mut client) = tokio::io::duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.expect("sent");
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let open = GracefulShutdown::new();
        answer(&server.http1, server.router, stream, peer, open.watcher()).await;
        assert_eq!(Arc::strong_count(&held), 1, "the answer is still held");
    }
}
