//! Connections to other nodes: one for each, made when needed, shared by all calls.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;

use super::dial::{Connection, Dial};
use super::message::{Answer, Ask, Envelope, MESSAGE_BYTES_MAX, Refusal, decode, encode};
use super::server::Body;
use crate::address_book::AddressBook;
use crate::id::NodeId;
use crate::identity::Identity;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// The connection to a node, if there is one; held while one is made.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<dyn Connection>>>>;

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
    dialer: Box<dyn Dial>,
    identity: Arc<Identity>,
    book: Arc<AddressBook>,
    slots: Mutex<HashMap<NodeId, Slot>>,
}

impl Links {
    pub(crate) fn new(dialer: Box<dyn Dial>, identity: Arc<Identity>, book: Arc<AddressBook>) -> Arc<Self> {
        Arc::new(Self { dialer, identity, book, slots: Mutex::new(HashMap::new()) })
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
            let connection = self.connection(node, hint).await?;
            let answer = self.call(&*connection, ask).await;
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
            let (node, connection) = self.dial(address, None).await?;
            Ok((node, self.call(&*connection, ask).await?))
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
    ) -> Result<Body, LinkError> {
        let opening = async {
            let connection = self.connection(node, hint).await?;
            let body = StreamBody::new(frames.map(|bytes| bytes.map(Frame::data))).boxed_unsync();
            let response = self.send(&*connection, path, body).await;
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

    async fn call(&self, connection: &dyn Connection, ask: Ask) -> Result<Answer, LinkError> {
        let envelope = Envelope { cluster: self.identity.cluster(), ask };
        let bytes = encode(&envelope).map_err(|e| LinkError::Lost(e.to_string()))?;
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(connection, "/call", body).await?;
        let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect().await;
        let bytes = body.map_err(|e| LinkError::Lost(e.to_string()))?.to_bytes();
        match decode(&bytes).map_err(|e| LinkError::Lost(e.to_string()))? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    async fn send(
        &self,
        connection: &dyn Connection,
        path: &'static str,
        body: Body,
    ) -> Result<Response<Body>, LinkError> {
        let mut request = Request::post(format!("https://any.node.roo{path}"));
        if let Some(cluster) = self.identity.cluster() {
            request = request.header("roo-cluster", cluster.to_string());
        }
        let request = request.body(body).map_err(|e| LinkError::Lost(e.to_string()))?;
        connection.send(request).await.map_err(|e| LinkError::Lost(e.to_string()))
    }

    /// The connection to a node. One caller dials, others wait for it.
    async fn connection(&self, node: NodeId, hint: Option<&str>) -> Result<Arc<dyn Connection>, LinkError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(node).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
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
                Ok((_, connection)) => {
                    self.book.learn(node, address);
                    *slot = Some(Arc::clone(&connection));
                    return Ok(connection);
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
            if slot.as_ref().is_some_and(|connection| connection.is_closed()) {
                *slot = None;
            }
        }
    }

    async fn dial(&self, address: &str, expected: Option<NodeId>) -> Result<(NodeId, Arc<dyn Connection>), LinkError> {
        let result = tokio::time::timeout(CONNECT_TIMEOUT, self.dialer.dial(address, expected)).await;
        result
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(|source| LinkError::Unreachable { target: address.to_owned(), source })
    }
}
