//! Making connections to other nodes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::CertificateError;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::server::Body;
use super::strangers::Strangers;
use super::tls::{Credentials, node_of, server_name};
use crate::id::NodeId;

/// A connection without any answer for this long is given up.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

const WINDOW_BYTES: u32 = 8 << 20;

/// Makes connections: over TLS, or in a simulation.
pub(crate) trait Dial: Send + Sync + 'static {
    /// Connects to whoever is at an address, or only to `expected`, and says who it is.
    fn dial<'a>(
        &'a self,
        address: &'a str,
        expected: Option<NodeId>,
    ) -> BoxFuture<'a, io::Result<(NodeId, Arc<dyn Connection>)>>;
}

/// A connection to a node, shared by all calls.
pub(crate) trait Connection: Send + Sync {
    /// Sends a request; the answer's body may come while that of the request still goes.
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, io::Result<Response<Body>>>;

    /// Whether no more can be sent.
    fn is_closed(&self) -> bool;
}

/// HTTP/2 over mutual TLS.
pub(crate) struct TlsDialer {
    pub(crate) credentials: Credentials,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Dial for TlsDialer {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        expected: Option<NodeId>,
    ) -> BoxFuture<'a, io::Result<(NodeId, Arc<dyn Connection>)>> {
        self.connect(address, expected).boxed()
    }
}

impl TlsDialer {
    async fn connect(&self, address: &str, expected: Option<NodeId>) -> io::Result<(NodeId, Arc<dyn Connection>)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.credentials.client());
        let remote = stream.peer_addr()?.ip();
        let stream = connector.connect(server_name(expected), stream).await.inspect_err(|error| {
            if is_distrust(error) {
                self.strangers.shunned(remote, &error.to_string());
            }
        })?;
        let node = node_of(stream.get_ref().1.peer_certificates())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the peer's certificate names no node"))?;
        let executor = Spawner { tracker: self.tracker.clone(), stop: self.stop.clone() };
        let (sender, connection) = hyper::client::conn::http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // How it ended is told to those whose calls it carried.
                _ = connection => {}
            }
        });
        Ok((node, Arc::new(Http2(sender))))
    }
}

/// Whether a handshake failed because the other's certificate is not of this cluster; that another node now has its
/// address is no such thing.
fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.is_some_and(|inner| match inner {
        rustls::Error::InvalidCertificate(fault) => {
            !matches!(fault, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
        }
        _ => false,
    })
}

struct Http2(SendRequest<Body>);

impl Connection for Http2 {
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, io::Result<Response<Body>>> {
        let mut sender = self.0.clone();
        async move {
            sender.ready().await.map_err(io::Error::other)?;
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
        }
        .boxed()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Runs hyper's tasks where shutdown finds them.
#[derive(Clone)]
pub(crate) struct Spawner {
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: std::future::Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = future => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
