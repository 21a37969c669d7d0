//! One client connection, from accept to close.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::activity::{Activity, Phase};
use crate::certificate::Served;
use crate::codec::Request;
use crate::event::Event;
use crate::failure::Failure;
use crate::forward::{Outgoing, Peer};
use crate::metric::Handshake;
use crate::name::HostName;
use crate::origin::Scheme;
use crate::proxy_protocol::{self, Ends};
use crate::request_id::RequestId;
use crate::stream::Stream;
use crate::target::{RecentHost, Target};
use crate::tls::Asked;
use crate::trace::Trace;
use crate::view::Visit;
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
    /// Requests that have come in.
    pub(crate) asked: Cell<u64>,
    _open: Open,
}

/// What the handshake settled.
pub(crate) struct ClientTls {
    pub(crate) name: HostName,
    pub(crate) served: Arc<Served>,
    /// What was asked of the client beyond the usual.
    pub(crate) asked: Option<Arc<Asked>>,
    /// As the access log names them.
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, open: Open, mut socket: TcpStream, peer: SocketAddr) {
    // Without it small responses would wait for acknowledgements; a socket that cannot is on its way out.
    let _ = socket.set_nodelay(true);
    let Ok(local) = socket.local_addr() else { return };
    let mut ends = Ends::new(peer, local);
    if contains(&worker.shared.config.proxy_protocol_from, ends.source.ip()) {
        match apart(|| announced(&worker, &mut socket, ends)).await {
            Some(announced) => ends = announced,
            None => return,
        }
    }
    match open.scheme {
        Scheme::Http => serve_plain(worker, open, socket, ends).await,
        Scheme::Https => serve_tls(worker, open, socket, ends).await,
    }
}

/// Reads the PROXY header that is due: the ends of the connection that this one stands for.
async fn announced(worker: &Worker, socket: &mut TcpStream, own: Ends) -> Option<Ends> {
    let within = worker.shared.config.timeouts.header;
    let why = match tokio::time::timeout(within, proxy_protocol::receive(socket)).await {
        Ok(Ok(ends)) => return Some(ends.unwrap_or(own)),
        Ok(Err(fault)) if fault.kind() == io::ErrorKind::InvalidData => fault.to_string(),
        // It only looked whether somebody listens.
        Ok(Err(_)) => return None,
        Err(_) => "no whole PROXY header came in time".to_owned(),
    };
    worker.shared.events.tell(Event::ProxyHeaderMissing { peer: own.source.ip(), why });
    None
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

async fn serve_plain(worker: Rc<Worker>, open: Open, socket: TcpStream, ends: Ends) {
    let activity = visit(&worker, Scheme::Http, ends.source);
    says(&activity, "HTTP/1.1", None);
    // The first byte is due as soon as a whole head: who connects here has something to say.
    activity.enter(Phase::Head);
    let stream = Stream::new(socket, activity.clone());
    let peer = peer(&worker, &open, ends);
    apart(|| http1::serve(stream, Client::new(worker, open, peer, activity, None))).await;
}

async fn serve_tls(worker: Rc<Worker>, open: Open, socket: TcpStream, ends: Ends) {
    let activity = visit(&worker, Scheme::Https, ends.source);
    let accepted = apart(|| tls::accept(&worker, Stream::new(socket, activity.clone()), ends.destination.port())).await;
    worker.measures.handshake(accepted.as_ref().err().copied().unwrap_or(Handshake::Done));
    let Ok(tls::Accepted { stream, name, served, is_http2, asked }) = accepted else {
        return;
    };
    activity.is_multiplexed(is_http2);
    activity.enter(Phase::Idle);
    let session = stream.get_ref().1;
    let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or_default();
    let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    let peer = peer(&worker, &open, ends).with_certificate(shown);
    let tls = ClientTls { name, served, asked, version, cipher };
    says(&activity, if is_http2 { "HTTP/2" } else { "HTTP/1.1" }, Some(version));
    let client = Client::new(worker, open, peer, activity, Some(tls));
    if is_http2 {
        apart(|| http2::serve(stream, client)).await;
    } else {
        apart(|| http1::serve(stream, client)).await;
    }
}

/// A client's connection as those see it who look at what is going on.
fn visit(worker: &Worker, scheme: Scheme, peer: SocketAddr) -> Rc<Activity> {
    let activity = worker.sweep.activity();
    // A dual-stack socket shows IPv4 peers as mapped addresses.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    activity.is_of(Visit::new(peer, scheme));
    activity
}

/// Another client of this worker.
fn peer(worker: &Worker, open: &Open, ends: Ends) -> Peer {
    let trusted = contains(&worker.shared.config.trusted_proxies, ends.source.ip());
    Peer::new(worker.next_client(), ends, trusted, open.scheme)
}

/// The handshake has settled what is spoken.
fn says(activity: &Activity, protocol: &'static str, tls: Option<&'static str>) {
    if let Some(visit) = activity.visit() {
        visit.protocol.set(Some(protocol));
        visit.tls.set(tls);
    }
}

/// A part of a connection's task in memory of its own: a connection that waits has only what it waits with. Made by a
/// call, since what is made in place takes its room in the task for ever.
pub(crate) fn apart<F: Future>(part: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), part()))
}

impl Client {
    fn new(worker: Rc<Worker>, open: Open, peer: Peer, activity: Rc<Activity>, tls: Option<ClientTls>) -> Rc<Client> {
        Rc::new(Client { worker, peer, recent: RecentHost::default(), tls, activity, asked: Cell::new(0), _open: open })
    }
}

impl Client {
    /// A request of this client on its way to an upstream.
    pub(crate) fn outgoing<'a>(
        &'a self,
        request: &'a Request<'a>,
        target: &'a Target,
        id: &'a RequestId,
        upgrade: Option<&'a [u8]>,
        trace: Option<&'a Trace>,
        began: Instant,
    ) -> Outgoing<'a> {
        Outgoing { request, target, id, peer: &self.peer, upgrade, trace, began }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.pool.forget(self.peer.id);
        self.worker.links.forget(self.peer.id);
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
