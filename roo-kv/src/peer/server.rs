//! The Raft port: lets in whoever has the cluster's secret, and hands their questions on.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tokio_util::io::StreamReader;

use super::dial::Spawner;
use super::message::{Answer, AppendForm, Envelope, MESSAGE_BYTES_MAX, Refusal, StreamAnswer, decode, encode};
use super::strangers::Strangers;
use super::tls::{Credentials, node_of};
use crate::attest::{self, Door};
use crate::id::{ClusterId, NodeId};

/// Most connections at once; a cluster of hundreds needs a few for each node.
const CONNECTIONS_MAX: usize = 2048;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u32 = 8 << 20;
const STREAMS_MAX: u32 = 4096;

/// How long open calls may take to end when a connection is closed because its secret is accepted no more.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A request or an answer on the way.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A stream of messages from a peer.
pub(crate) type Messages<T> = std::pin::Pin<Box<dyn Stream<Item = io::Result<T>> + Send>>;

/// What the node does with questions. Who asks was verified.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a single question.
    fn call(&self, peer: NodeId, remote: IpAddr, envelope: Envelope) -> impl Future<Output = Answer> + Send;

    /// Stores a stream of log entries.
    fn append(
        &self,
        cluster: Option<ClusterId>,
        appends: Messages<AppendForm>,
    ) -> impl Future<Output = Result<Messages<StreamAnswer>, Refusal>> + Send;

    /// Takes a snapshot.
    fn snapshot(&self, cluster: Option<ClusterId>, chunks: Messages<Bytes>) -> impl Future<Output = Answer> + Send;

    /// The peer has proved who it is on a new connection.
    fn came(&self, peer: NodeId);

    /// One of its connections has ended.
    fn left(&self, peer: NodeId);
}

/// Serves the port until told to stop.
pub(crate) async fn serve<H: Handler>(
    listener: TcpListener,
    credentials: Credentials,
    door: Option<Arc<Door>>,
    strangers: Arc<Strangers>,
    handler: Arc<H>,
    spawner: Spawner,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = spawner.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually the limit of open files: accepting again at once would spin.
                tracing::warn!(%error, "cannot accept a peer's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (credentials, door) = (credentials.clone(), door.clone());
        let (handler, strangers, spawner_of_it) = (Arc::clone(&handler), Arc::clone(&strangers), spawner.clone());
        let stop = spawner.stop.clone();
        spawner.tracker.spawn(async move {
            tokio::select! {
                () = connection(stream, remote, &credentials, door.as_deref(), handler, &strangers, spawner_of_it) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    remote: SocketAddr,
    credentials: &Credentials,
    door: Option<&Door>,
    handler: Arc<H>,
    strangers: &Strangers,
    spawner: Spawner,
) {
    let narrowed = credentials.narrowed();
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, greet(stream, credentials, door)).await {
        Ok(Ok(Greeted::Peer(stream))) => stream,
        Ok(Ok(Greeted::Stranger(stream, door))) => {
            return door.answer(stream).await.unwrap_or_else(|reason| strangers.refused(remote.ip(), &reason));
        }
        Ok(Err(error)) => return strangers.refused(remote.ip(), &error.to_string()),
        Err(_) => return strangers.refused(remote.ip(), "it did not finish the handshake"),
    };
    let Some(peer) = node_of(stream.get_ref().1.peer_certificates()) else {
        return strangers.refused(remote.ip(), "its certificate names no node");
    };
    let _presence = Presence::new(Arc::clone(&handler), peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let request = request.map(|body| body.map_err(io::Error::other).boxed_unsync());
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(respond(&*handler, peer, remote.ip().to_canonical(), request).await) }
    });
    let served = hyper::server::conn::http2::Builder::new(spawner)
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let served = tokio::select! {
        served = &mut served => served,
        // The peer proved a secret that may be accepted no more: let it prove another.
        () = narrowed => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LEAVE_TIMEOUT, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a peer's connection ended");
    }
}

/// Who is at the other end of a connection.
enum Greeted<'a> {
    /// Somebody with a certificate that follows from the secret.
    Peer(TlsStream<TcpStream>),
    /// Somebody who asks for the secret at this door.
    Stranger(TlsStream<TcpStream>, &'a Door),
}

/// The handshake.
async fn greet<'a>(stream: TcpStream, credentials: &Credentials, door: Option<&'a Door>) -> io::Result<Greeted<'a>> {
    stream.set_nodelay(true)?;
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let asks = || start.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == attest::ALPN));
    match door.filter(|_| asks()) {
        Some(door) => Ok(Greeted::Stranger(start.into_stream(door.tls()).await?, door)),
        None => Ok(Greeted::Peer(start.into_stream(credentials.server()).await?)),
    }
}

/// Says that a connection has ended, also if its task is dropped.
struct Presence<H: Handler> {
    handler: Arc<H>,
    peer: NodeId,
}

impl<H: Handler> Presence<H> {
    fn new(handler: Arc<H>, peer: NodeId) -> Self {
        handler.came(peer);
        Self { handler, peer }
    }
}

impl<H: Handler> Drop for Presence<H> {
    fn drop(&mut self) {
        self.handler.left(self.peer);
    }
}

/// Answers a request of a peer whose certificate was verified.
pub(crate) async fn respond<H: Handler>(
    handler: &H,
    peer: NodeId,
    remote: IpAddr,
    request: Request<Body>,
) -> Response<Body> {
    let cluster = request.headers().get("roo-cluster").and_then(|value| value.to_str().ok()?.parse().ok());
    match request.uri().path() {
        "/call" => call(handler, peer, remote, request.into_body()).await,
        "/append" => {
            let appends = messages(request.into_body()).map(|bytes| decode(&bytes?)).boxed();
            match handler.append(cluster, appends).await {
                Ok(answers) => {
                    let frames = answers.map(|answer| Ok(Frame::data(framed(&encode(&answer?)?))));
                    Response::new(StreamBody::new(frames).boxed_unsync())
                }
                Err(refusal) => {
                    tracing::debug!(%peer, %refusal, "refused a stream of log entries");
                    status(StatusCode::CONFLICT)
                }
            }
        }
        "/snapshot" => answer(&handler.snapshot(cluster, messages(request.into_body()).boxed()).await),
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn call<H: Handler>(handler: &H, peer: NodeId, remote: IpAddr, body: Body) -> Response<Body> {
    let Ok(body) = Limited::new(body, MESSAGE_BYTES_MAX).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    match decode::<Envelope>(&body.to_bytes()) {
        Ok(envelope) => answer(&handler.call(peer, remote, envelope).await),
        Err(error) => answer(&Answer::Refused(Refusal::Unable { reason: error.to_string() })),
    }
}

fn answer(answer: &Answer) -> Response<Body> {
    match encode(answer) {
        Ok(bytes) => Response::new(Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response
}

/// The messages in a body, each preceded by its length.
pub(crate) fn messages(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_codec();
    FramedRead::new(StreamReader::new(body.into_data_stream()), codec).map_ok(bytes::BytesMut::freeze)
}

/// A message preceded by its length.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(4 + message.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}
