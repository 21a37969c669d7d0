//! Connections to other nodes: one for each, made when needed, shared by all calls.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::message::{Answer, Ask, Envelope, MESSAGE_BYTES_MAX, Refusal, decode, encode};
use super::tls::{Credentials, node_of, server_name};
use crate::address_book::AddressBook;
use crate::id::NodeId;
use crate::identity::Identity;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// A connection without any answer for this long is given up.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

const WINDOW_BYTES: u32 = 8 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
type Sender = SendRequest<Body>;

/// Why a peer could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nothing was sent.
    #[error("cannot reach {target}: {source}")]
    Unreachable { target: String, source: io::Error },
    /// Something was or may have been sent.
    #[error("lost the connection: {0}")]
    Lost(String),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// All connections of this node to others.
pub(crate) struct Links {
    credentials: Credentials,
    identity: Arc<Identity>,
    book: Arc<AddressBook>,
    tracker: TaskTracker,
    stop: CancellationToken,
    slots: Mutex<HashMap<NodeId, Arc<tokio::sync::Mutex<Option<Sender>>>>>,
}

impl Links {
    pub(crate) fn new(
        credentials: Credentials,
        identity: Arc<Identity>,
        book: Arc<AddressBook>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { credentials, identity, book, tracker, stop, slots: Mutex::new(HashMap::new()) })
    }

    /// Asks a node by its id. `hint`: an address to try if the book has none or a wrong one.
    ///
    /// If the future is dropped, the peer may or may not have got the question.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        hint: Option<&str>,
        ask: Ask,
        timeout: Duration,
    ) -> Result<Answer, LinkError> {
        let asking = async {
            let sender = self.sender(node, hint).await?;
            let answer = self.call(sender, ask).await;
            if matches!(answer, Err(LinkError::Lost(_))) {
                self.forget(node).await;
            }
            answer
        };
        let answer = tokio::time::timeout(timeout, asking).await.map_err(|_| LinkError::Timeout(timeout))??;
        self.book.heard(node);
        Ok(answer)
    }

    /// Asks whoever is at an address, and says who that is.
    pub(crate) async fn ask_address(
        &self,
        address: &str,
        ask: Ask,
        timeout: Duration,
    ) -> Result<(NodeId, Answer), LinkError> {
        let asking = async {
            let (node, sender) = self.dial(address, None).await?;
            Ok((node, self.call(sender, ask).await?))
        };
        tokio::time::timeout(timeout, asking).await.map_err(|_| LinkError::Timeout(timeout))?
    }

    /// Sends a stream of frames and gets the answer's body.
    pub(crate) async fn open_stream(
        &self,
        node: NodeId,
        hint: Option<&str>,
        path: &'static str,
        frames: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        timeout: Duration,
    ) -> Result<Incoming, LinkError> {
        let opening = async {
            let sender = self.sender(node, hint).await?;
            let body = StreamBody::new(frames.map(|bytes| bytes.map(Frame::data))).boxed_unsync();
            let response = self.send(sender, path, body).await;
            if response.is_err() {
                self.forget(node).await;
            }
            response
        };
        let response = tokio::time::timeout(timeout, opening).await.map_err(|_| LinkError::Timeout(timeout))??;
        if response.status() != StatusCode::OK {
            let reason = format!("status {}", response.status());
            return Err(Refusal::Unable { reason }.into());
        }
        Ok(response.into_body())
    }

    async fn call(&self, sender: Sender, ask: Ask) -> Result<Answer, LinkError> {
        let envelope = Envelope { cluster: self.identity.cluster(), ask };
        let bytes = encode(&envelope).map_err(|e| LinkError::Lost(e.to_string()))?;
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(sender, "/call", body).await?;
        let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect().await;
        let bytes = body.map_err(|e| LinkError::Lost(e.to_string()))?.to_bytes();
        match decode(&bytes).map_err(|e| LinkError::Lost(e.to_string()))? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    async fn send(&self, mut sender: Sender, path: &'static str, body: Body) -> Result<Response<Incoming>, LinkError> {
        let lost = |e: hyper::Error| LinkError::Lost(e.to_string());
        sender.ready().await.map_err(lost)?;
        let mut request = Request::post(format!("https://any.node.roo{path}"));
        if let Some(cluster) = self.identity.cluster() {
            request = request.header("roo-cluster", cluster.to_string());
        }
        let request = request.body(body).map_err(|e| LinkError::Lost(e.to_string()))?;
        sender.send_request(request).await.map_err(lost)
    }

    /// The connection to a node. One caller dials, others wait for it.
    async fn sender(&self, node: NodeId, hint: Option<&str>) -> Result<Sender, LinkError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(node).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        *slot = None;
        let known = self.book.address(node);
        let mut addresses: Vec<&str> = known.as_deref().into_iter().collect();
        if let Some(hint) = hint.filter(|hint| !addresses.contains(hint) && !hint.is_empty()) {
            addresses.push(hint);
        }
        let mut last = LinkError::Unreachable {
            target: format!("node {node}"),
            source: io::Error::new(io::ErrorKind::NotFound, "its address is not known"),
        };
        for address in addresses {
            match self.dial(address, Some(node)).await {
                Ok((_, sender)) => {
                    self.book.learn(node, address);
                    *slot = Some(sender.clone());
                    return Ok(sender);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn forget(&self, node: NodeId) {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        if let Some(slot) = slot {
            let mut slot = slot.lock().await;
            // Others may have dialed anew meanwhile.
            if slot.as_ref().is_some_and(SendRequest::is_closed) {
                *slot = None;
            }
        }
    }

    async fn dial(&self, address: &str, expected: Option<NodeId>) -> Result<(NodeId, Sender), LinkError> {
        let dialing = self.dial_unbounded(address, server_name(expected));
        let result = tokio::time::timeout(CONNECT_TIMEOUT, dialing).await;
        result
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(|source| LinkError::Unreachable { target: address.to_owned(), source })
    }

    async fn dial_unbounded(&self, address: &str, name: ServerName<'static>) -> io::Result<(NodeId, Sender)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.credentials.client));
        let stream = connector.connect(name, stream).await?;
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
                // How it ended is told to those whose calls it carried.
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
        Ok((node, sender))
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
