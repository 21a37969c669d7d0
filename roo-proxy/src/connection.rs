//! One client connection, from accept to close.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Version;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::activity::{Activity, Phase};
use crate::answer::{self, Form};
use crate::certificate::Served;
use crate::failure::Failure;
use crate::forward::identity;
use crate::metric::Handshake;
use crate::name::HostName;
use crate::origin::Scheme;
use crate::stream::Stream;
use crate::worker::Worker;
use crate::{http1, http2, tls};

/// What all requests of a connection share.
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: IpAddr,
    /// Whether the peer's forwarding fields are believed.
    pub(crate) trusted: bool,
    pub(crate) scheme: Scheme,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) activity: Arc<Activity>,
    /// Whether a request has come in.
    pub(crate) asked: Cell<bool>,
    _open: Open,
}

/// What the handshake settled.
pub(crate) struct ClientTls {
    pub(crate) name: HostName,
    pub(crate) served: Arc<Served>,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, open: Open, socket: TcpStream, peer: SocketAddr) {
    // Without it small responses would wait for acknowledgements; a socket that cannot is on its way out.
    let _ = socket.set_nodelay(true);
    match open.scheme {
        Scheme::Http => serve_plain(worker, open, socket, peer).await,
        Scheme::Https => serve_tls(worker, open, socket, peer).await,
    }
}

async fn serve_plain(worker: Rc<Worker>, open: Open, socket: TcpStream, peer: SocketAddr) {
    let activity = worker.sweep.activity(true);
    // The first byte is due as soon as a whole head: who connects here has something to say.
    activity.enter(Phase::Head);
    let stream = Stream::new(socket, activity.clone());
    http1::serve(stream, Client::new(worker, open, peer, activity, None)).await;
}

async fn serve_tls(worker: Rc<Worker>, open: Open, socket: TcpStream, peer: SocketAddr) {
    let activity = worker.sweep.activity(true);
    let accepted = tls::accept(&worker, Stream::new(socket, activity.clone())).await;
    worker.measures.handshake(accepted.as_ref().err().copied().unwrap_or(Handshake::Done));
    let Ok(tls::Accepted { stream, name, served, is_http2 }) = accepted else {
        return;
    };
    activity.is_multiplexed(is_http2);
    activity.enter(Phase::Idle);
    let client = Client::new(worker, open, peer, activity, Some(ClientTls { name, served }));
    if is_http2 {
        http2::serve(stream, client).await;
    } else {
        http1::serve(stream, client).await;
    }
}

impl Client {
    fn new(
        worker: Rc<Worker>,
        open: Open,
        peer: SocketAddr,
        activity: Arc<Activity>,
        tls: Option<ClientTls>,
    ) -> Rc<Client> {
        // A dual-stack socket shows IPv4 peers as mapped addresses.
        let peer = peer.ip().to_canonical();
        let trusted = worker.shared.config.trusted_proxies.iter().any(|net| net.contains(&peer));
        Rc::new(Client {
            worker,
            peer,
            trusted,
            scheme: open.scheme,
            tls,
            activity,
            asked: Cell::new(false),
            _open: open,
        })
    }
}

impl Client {
    /// Whether this is to be the connection's last request.
    pub(crate) fn is_draining(&self) -> bool {
        self.worker.stop.drain.is_cancelled()
    }
}

/// A connection of either protocol that can be asked to end after the exchanges under way.
pub(crate) trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

/// How long an idle connection may take to say goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Drives a connection until it ends, the worker drains, or its time is over.
pub(crate) async fn drive<C: Graceful>(client: &Client, mut connection: Pin<&mut C>) {
    let drain = client.worker.stop.drain.cancelled();
    tokio::select! {
        // What ended it is the client's affair.
        _ = connection.as_mut() => return,
        () = client.activity.expired() => {
            if client.activity.phase() == Phase::Idle {
                connection.as_mut().finish();
                let _ = tokio::time::timeout(GOODBYE_WITHIN, connection).await;
            }
            return;
        }
        () = drain => {}
    }
    tokio::select! {
        _ = finish(client, connection) => {}
        () = client.activity.expired() => {}
    }
}

/// Ends a connection in a drain. One that is new gets a moment to bring the request it was made for:
/// its client could not know.
async fn finish<C: Graceful>(client: &Client, mut connection: Pin<&mut C>) {
    if !client.asked.get() && tokio::time::timeout(FIRST_REQUEST_WITHIN, connection.as_mut()).await.is_ok() {
        return;
    }
    connection.as_mut().finish();
    // What ended it is the client's affair.
    let _ = connection.await;
}

const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);

/// A connection counted as open until dropped.
pub(crate) struct Open {
    worker: Rc<Worker>,
    scheme: Scheme,
}

impl Open {
    /// Counts a connection, or nothing if there are too many.
    pub(crate) fn admit(worker: &Rc<Worker>, scheme: Scheme) -> Option<Open> {
        let max = worker.shared.config.limits.connections.max(1);
        let before = worker.shared.counts.connections.fetch_add(1, Ordering::Relaxed);
        worker.measures.open(scheme).increment(1.0);
        let open = Open { worker: worker.clone(), scheme };
        (before < max).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.shared.counts.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.measures.open(self.scheme).decrement(1.0);
    }
}

/// Tells a plain client that there are too many, within a moment.
pub(crate) async fn turn_away(mut socket: TcpStream) {
    let id = identity::request_id(&HeaderMap::new(), false);
    let answer = answer::failure(Failure::TooManyConnections, Form::Text, &id, Version::HTTP_11);
    let telling = async {
        socket.write_all(&written(&answer, &id)).await?;
        socket.shutdown().await?;
        // A socket closed with unread bytes is reset, and the client may never see the answer.
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    // Either way the client has had its chance.
    let _ = tokio::time::timeout(TURN_AWAY_WITHIN, telling).await;
}

const TURN_AWAY_WITHIN: Duration = Duration::from_secs(1);

fn written(answer: &http::Response<Bytes>, id: &http::HeaderValue) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    let mut field = |name: &[u8], value: &[u8]| {
        bytes.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    };
    for (name, value) in answer.headers() {
        field(name.as_str().as_bytes(), value.as_bytes());
    }
    field(identity::X_REQUEST_ID.as_str().as_bytes(), id.as_bytes());
    field(b"content-length", answer.body().len().to_string().as_bytes());
    field(b"connection", b"close");
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(answer.body());
    bytes
}
