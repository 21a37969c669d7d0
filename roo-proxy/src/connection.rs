//! One client connection, from accept to close.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::activity::{Activity, Phase};
use crate::certificate::Served;
use crate::codec::Request;
use crate::failure::Failure;
use crate::forward::{Outgoing, Peer};
use crate::metric::Handshake;
use crate::name::HostName;
use crate::origin::Scheme;
use crate::request_id::RequestId;
use crate::stream::Stream;
use crate::target::{RecentHost, Target};
use crate::worker::Worker;
use crate::{http1, http2, tls};

/// What all requests of a connection share.
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Peer,
    /// The host asked for last.
    pub(crate) recent: RecentHost,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) activity: Rc<Activity>,
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
    let activity = worker.sweep.activity();
    // The first byte is due as soon as a whole head: who connects here has something to say.
    activity.enter(Phase::Head);
    let stream = Stream::new(socket, activity.clone());
    apart(|| http1::serve(stream, Client::new(worker, open, peer, activity, None))).await;
}

async fn serve_tls(worker: Rc<Worker>, open: Open, socket: TcpStream, peer: SocketAddr) {
    let activity = worker.sweep.activity();
    let accepted = apart(|| tls::accept(&worker, Stream::new(socket, activity.clone()))).await;
    worker.measures.handshake(accepted.as_ref().err().copied().unwrap_or(Handshake::Done));
    let Ok(tls::Accepted { stream, name, served, is_http2 }) = accepted else {
        return;
    };
    activity.is_multiplexed(is_http2);
    activity.enter(Phase::Idle);
    let client = Client::new(worker, open, peer, activity, Some(ClientTls { name, served }));
    if is_http2 {
        apart(|| http2::serve(stream, client)).await;
    } else {
        apart(|| http1::serve(stream, client)).await;
    }
}

/// A part of a connection's task in memory of its own: a connection that waits has only what it waits with. Made by a
/// call, since what is made in place takes its room in the task for ever.
pub(crate) fn apart<F: Future>(part: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(part())
}

impl Client {
    fn new(
        worker: Rc<Worker>,
        open: Open,
        peer: SocketAddr,
        activity: Rc<Activity>,
        tls: Option<ClientTls>,
    ) -> Rc<Client> {
        // A dual-stack socket shows IPv4 peers as mapped addresses.
        let peer = peer.ip().to_canonical();
        let trusted = worker.shared.config.trusted_proxies.iter().any(|net| net.contains(&peer));
        Rc::new(Client {
            worker,
            peer: Peer::new(peer, trusted, open.scheme),
            recent: RecentHost::default(),
            tls,
            activity,
            asked: Cell::new(false),
            _open: open,
        })
    }
}

impl Client {
    /// A request of this client on its way to an upstream.
    pub(crate) fn outgoing<'a>(
        &'a self,
        request: &'a Request<'a>,
        target: &'a Target<'a>,
        id: &'a RequestId,
        upgrade: Option<&'a [u8]>,
    ) -> Outgoing<'a> {
        Outgoing { request, target, id, peer: &self.peer, upgrade }
    }
}

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
    let answer = http1::turned_away(Failure::TooManyConnections);
    let telling = async {
        socket.write_all(&answer).await?;
        socket.shutdown().await?;
        // A socket closed with unread bytes is reset, and the client may never see the answer.
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    // Either way the client has had its chance.
    let _ = tokio::time::timeout(TURN_AWAY_WITHIN, telling).await;
}

const TURN_AWAY_WITHIN: Duration = Duration::from_secs(1);
