//! The service behind Roo: this very program, in a container. It does at SIGTERM what a good service does: it takes no
//! new connections, finishes what it has, says `Connection: close` with each answer, and then hangs up.
//!
//! | request | answer |
//! |---|---|
//! | `GET /…` | path and query |
//! | `GET /slow` | the same, after [`SLOW`] |
//! | `POST /…` | the body |
//! | `GET /download` | [`DOWNLOAD_BYTES`] over [`DOWNLOAD`] |
//! | `GET /socket` | a WebSocket that says each message again, until the client closes it |

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, stream};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The argument that makes this program the service.
pub const MODE: &str = "origin";
/// How long a slow answer takes.
pub const SLOW: Duration = Duration::from_millis(400);
/// How long a download takes.
pub const DOWNLOAD: Duration = Duration::from_secs(10);
pub const DOWNLOAD_BYTES: usize = PIECES * PIECE_BYTES;

const PIECES: usize = 50;
const PIECE_BYTES: usize = 4096;
/// For how long after the signal an idle connection is kept, so that nobody's request meets its end.
const LINGERING: Duration = Duration::from_secs(3);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves port 80 until SIGTERM, then finishes.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    let ending = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            _ = terminate.recv() => break,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, ending.clone()));
                }
            }
        }
    }
    println!("told to end, {} connections", connections.len());
    ending.store(true, Ordering::Relaxed);
    // Those that the kernel has let in are served too; closing the socket would reset them.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        connections.spawn(connection(stream, ending.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Serves a connection until it ends.
async fn connection(stream: TcpStream, ending: Arc<AtomicBool>) {
    drop(stream.set_nodelay(true));
    let told = ending.clone();
    let mut sockets = JoinSet::new();
    let (opened, mut open) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request| {
        let (told, opened) = (told.clone(), opened.clone());
        async move {
            let mut answer = answer(request, &opened).await;
            if told.load(Ordering::Relaxed) && answer.status() != 101 {
                answer.headers_mut().insert("connection", HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http.with_upgrades());
    let lingered = async {
        while !ending.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(LINGERING).await;
    };
    tokio::select! {
        _ = &mut http => {}
        () = lingered => {
            http.as_mut().graceful_shutdown();
            drop(http.await);
        }
    }
    while let Ok(upgrade) = open.try_recv() {
        sockets.spawn(socket(upgrade));
    }
    while sockets.join_next().await.is_some() {}
}

type Upgrades = tokio::sync::mpsc::UnboundedSender<hyper::upgrade::OnUpgrade>;

async fn answer(mut request: Request<Incoming>, opened: &Upgrades) -> Answer {
    let asked = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    match (request.method(), request.uri().path()) {
        (&Method::POST, _) => match request.into_body().collect().await {
            Ok(body) => whole(body.to_bytes()),
            Err(_) => status(400),
        },
        (_, "/download") => download(),
        (_, "/socket") => {
            let Some(key) = request.headers().get("sec-websocket-key") else { return status(400) };
            let accept = derive_accept_key(key.as_bytes());
            drop(opened.send(hyper::upgrade::on(&mut request)));
            let mut answer = status(101);
            let fields = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)];
            for (name, value) in fields {
                answer.headers_mut().insert(name, HeaderValue::from_str(value).expect("a valid value"));
            }
            answer
        }
        (_, "/slow") => {
            tokio::time::sleep(SLOW).await;
            whole(Bytes::from(asked))
        }
        _ => whole(Bytes::from(asked)),
    }
}

fn whole(body: Bytes) -> Answer {
    Response::new(Full::new(body).boxed_unsync())
}

fn status(code: u16) -> Answer {
    Response::builder().status(code).body(Full::default().boxed_unsync()).expect("a valid answer")
}

fn download() -> Answer {
    let pieces = stream::unfold(0, |sent| async move {
        if sent == PIECES {
            return None;
        }
        tokio::time::sleep(DOWNLOAD / u32::try_from(PIECES).expect("few")).await;
        Some((Ok(Frame::data(Bytes::from(vec![b'.'; PIECE_BYTES]))), sent + 1))
    });
    let mut answer = Response::new(StreamBody::new(pieces).boxed_unsync());
    answer.headers_mut().insert("content-length", HeaderValue::from(DOWNLOAD_BYTES));
    answer
}

/// Says each message again.
async fn socket(upgrade: hyper::upgrade::OnUpgrade) {
    let Ok(stream) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        // The answer to a close is given by itself.
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
