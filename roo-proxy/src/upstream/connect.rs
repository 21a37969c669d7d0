//! Making a new connection to an upstream address.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Upstream;
use super::address::Address;
use super::connection::{Connection, UpstreamStream};
use super::guard;
use super::http2::Link;
use super::pool::Key;
use super::tls::{self, Profile};
use crate::activity::Activity;
use crate::failure::Failure;
use crate::forward::Peer;
use crate::proxy_protocol::Ends;
use crate::stream::Stream;
use crate::worker::Worker;

/// Why there is no connection. Nothing of a request was sent in any of the cases.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The address did not accept.
    #[error("no connection: {0}")]
    Refused(io::Error),
    /// Nothing may be connected to there.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// It accepted, but the TLS handshake failed.
    #[error("no TLS: {0}")]
    Tls(String),
    /// It does not speak HTTP/2, as it should.
    #[error("no HTTP/2: {0}")]
    Http2(String),
    /// The deadline passed.
    #[error("no connection in time")]
    Timeout,
}

impl ConnectError {
    pub(crate) fn failure(&self) -> Failure {
        match self {
            ConnectError::Refused(_) => Failure::Refused,
            ConnectError::Forbidden(_) => Failure::Forbidden,
            ConnectError::Tls(_) => Failure::Tls,
            ConnectError::Http2(_) => Failure::Reset,
            ConnectError::Timeout => Failure::Timeout,
        }
    }
}

/// What is pooled together for this upstream at this address.
pub(crate) fn key(worker: &Worker, upstream: &Upstream, address: &Address, peer: &Peer) -> Key {
    let profile = upstream.tls.as_ref().map_or(0, |profile| profile.id(&worker.shared.client_certificates));
    let client = if upstream.send_proxy.is_some() { peer.id } else { 0 };
    Key { address: address.clone(), profile, apart: upstream.apart, client }
}

/// Connects, TLS included, to the address of `key`. That was made before: what has changed since is not what was shown.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    upstream: &Upstream,
    ends: &Ends,
    key: Key,
    deadline: Instant,
) -> Result<Box<Connection>, ConnectError> {
    let (stream, activity) = open_within(worker, upstream, &key.address, ends, deadline).await?;
    Ok(Box::new(Connection { stream, input: BytesMut::new(), activity, key, in_flight: None }))
}

/// As [`connect`], for HTTP/2.
pub(crate) async fn connect_http2(
    worker: &Rc<Worker>,
    upstream: &Upstream,
    address: &Address,
    ends: &Ends,
    deadline: Instant,
) -> Result<Link, ConnectError> {
    let (stream, _) = open_within(worker, upstream, address, ends, deadline).await?;
    if let UpstreamStream::Tls(stream) = &stream
        && stream.get_ref().1.alpn_protocol() != Some(tls::H2)
    {
        return Err(ConnectError::Tls("the upstream does not speak HTTP/2".into()));
    }
    let starting = tokio::time::timeout_at(deadline, Link::start(stream));
    starting.await.map_err(|_| ConnectError::Timeout)?.map_err(|fault| ConnectError::Http2(fault.to_string()))
}

async fn open_within(
    worker: &Rc<Worker>,
    upstream: &Upstream,
    address: &Address,
    ends: &Ends,
    deadline: Instant,
) -> Result<Opened, ConnectError> {
    match tokio::time::timeout_at(deadline, open(worker, upstream, address, ends)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// A stream and what watches over it.
type Opened = (UpstreamStream, Rc<Activity>);

async fn open(
    worker: &Rc<Worker>,
    upstream: &Upstream,
    address: &Address,
    ends: &Ends,
) -> Result<Opened, ConnectError> {
    let activity = worker.sweep.activity();
    let stream = match address {
        Address::Ip(address) => {
            let ports = worker.shared.ports.load();
            let listeners = worker.shared.listeners.iter().chain(&ports.open);
            guard::ip(*address, &upstream.allowed_addresses, listeners).map_err(ConnectError::Forbidden)?;
            let socket = TcpStream::connect(address).await.map_err(ConnectError::Refused)?;
            tune(&socket).map_err(ConnectError::Refused)?;
            let mut stream = Stream::new(socket, activity.clone());
            announce(&mut stream, upstream, ends).await?;
            match &upstream.tls {
                None => UpstreamStream::Plain(stream),
                Some(profile) => UpstreamStream::Tls(Box::new(handshake(worker, profile, stream).await?)),
            }
        }
        Address::Unix(path) => {
            guard::unix(path, &worker.shared.config.unix_upstreams).map_err(ConnectError::Forbidden)?;
            let socket = UnixStream::connect(&**path).await.map_err(ConnectError::Refused)?;
            let mut stream = Stream::new(socket, activity.clone());
            announce(&mut stream, upstream, ends).await?;
            UpstreamStream::Unix(stream)
        }
    };
    Ok((stream, activity))
}

/// Says whose connection this one stands for, if the route wants that said.
async fn announce<S: AsyncWrite + Unpin>(stream: &mut S, upstream: &Upstream, ends: &Ends) -> Result<(), ConnectError> {
    match upstream.send_proxy {
        Some(version) => stream.write_all(&version.header(ends)).await.map_err(ConnectError::Refused),
        None => Ok(()),
    }
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // Below the 900 s after which Swarm's virtual addresses forget a silent connection.
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))
}

const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

async fn handshake(
    worker: &Worker,
    profile: &Profile,
    stream: Stream,
) -> Result<tokio_rustls::client::TlsStream<Stream>, ConnectError> {
    let client = profile.client(&worker.shared.client_certificates).map_err(ConnectError::Tls)?;
    TlsConnector::from(client.config)
        .connect(client.name, stream)
        .await
        .map_err(|fault| ConnectError::Tls(fault.to_string()))
}
