//! Making a new connection to an upstream address.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Upstream;
use super::connection::{Connection, UpstreamStream};
use super::pool::Key;
use super::tls::Profile;
use crate::failure::Failure;
use crate::stream::Stream;
use crate::worker::Worker;

/// Why there is no connection. Nothing of a request was sent in any of the cases.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The address did not accept.
    #[error("no connection: {0}")]
    Refused(io::Error),
    /// It accepted, but the TLS handshake failed.
    #[error("no TLS: {0}")]
    Tls(String),
    /// The deadline passed.
    #[error("no connection in time")]
    Timeout,
}

impl ConnectError {
    pub(crate) fn failure(&self) -> Failure {
        match self {
            ConnectError::Refused(_) => Failure::Refused,
            ConnectError::Tls(_) => Failure::Tls,
            ConnectError::Timeout => Failure::Timeout,
        }
    }
}

/// What is pooled together for this upstream at this address.
pub(crate) fn key(upstream: &Upstream, address: SocketAddr) -> Key {
    Key { address, profile: upstream.tls.as_ref().map_or(0, |profile| profile.id) }
}

/// Connects, TLS included.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    upstream: &Upstream,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Connection, ConnectError> {
    let connecting = open(worker, upstream, address);
    match tokio::time::timeout_at(deadline, connecting).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout),
    }
}

async fn open(worker: &Rc<Worker>, upstream: &Upstream, address: SocketAddr) -> Result<Connection, ConnectError> {
    let socket = TcpStream::connect(address).await.map_err(ConnectError::Refused)?;
    tune(&socket).map_err(ConnectError::Refused)?;
    let activity = worker.sweep.activity();
    let stream = Stream::new(socket, activity.clone());
    let stream = match &upstream.tls {
        None => UpstreamStream::Plain(stream),
        Some(profile) => UpstreamStream::Tls(Box::new(handshake(profile, stream).await?)),
    };
    Ok(Connection { stream, input: BytesMut::new(), activity, key: key(upstream, address) })
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // Below the 900 s after which Swarm's virtual addresses forget a silent connection.
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))
}

const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

async fn handshake(profile: &Profile, stream: Stream) -> Result<tokio_rustls::client::TlsStream<Stream>, ConnectError> {
    let client = profile.client.as_ref().map_err(|fault| ConnectError::Tls(fault.clone()))?;
    TlsConnector::from(client.config.clone())
        .connect(client.name.clone(), stream)
        .await
        .map_err(|fault| ConnectError::Tls(fault.to_string()))
}
