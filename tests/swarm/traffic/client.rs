//! Requests over kept connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use super::tally::{Kind, Tally};
use crate::origin::DOWNLOAD_BYTES;
use crate::support::api::request;
use crate::support::https::Https;

/// For an answer, or for the next part of one.
const PATIENCE: Duration = Duration::from_secs(30);
/// For anything, whoever is to blame.
const AT_MOST: Duration = Duration::from_secs(90);
/// For a node to let a client in.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Requests at a time at a node, downloads and WebSockets not counted.
const PLACES: usize = 32;
/// How often all nodes are tried.
const TURNS: usize = 5;
/// A WebSocket's messages, and the pause between them.
const MESSAGES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(200);

type Sender = SendRequest<Full<Bytes>>;

/// Clients of one host.
pub struct Clients {
    nodes: Vec<Node>,
    host: String,
    https: Https,
    pub tally: Tally,
}

struct Node {
    address: SocketAddr,
    /// Who may have a request under way; the others wait, so that a slow node does not have to bear ever more handshakes.
    places: Semaphore,
    /// Connections without a request; the one that has waited longest is used first, so that none waits for long.
    idle: Mutex<VecDeque<Sender>>,
}

/// Why a request failed, and whether its answer had begun.
struct Failed {
    begun: bool,
    why: String,
}

/// Any error before the first byte of an answer.
impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self { begun: false, why: format!("{error:#}") }
    }
}

impl Clients {
    pub fn new(nodes: Vec<SocketAddr>, host: &str, https: Https) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|address| Node { address, places: Semaphore::new(PLACES), idle: Mutex::default() })
            .collect();
        Self { nodes, host: host.to_owned(), https, tally: Tally::new() }
    }

    /// Makes one request and accounts for it.
    pub async fn ask(&self, kind: Kind, number: u64) {
        let began = Instant::now();
        let mut node = usize::try_from(number).unwrap_or_default() % self.nodes.len();
        let doing = async {
            match kind {
                Kind::Get => self.exchange(&mut node, self.get(&format!("/get/{number}"))).await,
                Kind::Slow => self.exchange(&mut node, self.get(&format!("/slow?{number}"))).await,
                Kind::Post => {
                    let body = Bytes::from(
                        format!("{number} ").repeat(40 + usize::try_from(number % 997).unwrap_or_default()),
                    );
                    let post = request(Method::POST, &self.host, &format!("/post/{number}"), body.clone());
                    self.exchange(&mut node, (post, body)).await
                }
                Kind::Download => self.download(&mut node).await,
                Kind::Socket => self.socket(&mut node).await,
            }
        };
        let done = tokio::time::timeout(AT_MOST, doing).await;
        match done.unwrap_or_else(|_| Err(anyhow::anyhow!("it has no end").into())) {
            Ok(()) => self.tally.well(kind, began.elapsed()),
            Err(Failed { begun, why }) => self.tally.failed(kind, node + 1, began.elapsed(), begun, why),
        }
    }

    fn get(&self, path: &str) -> (Request<Bytes>, Bytes) {
        (request(Method::GET, &self.host, path, ""), Bytes::copy_from_slice(path.as_bytes()))
    }

    /// A request whose answer is known.
    async fn exchange(&self, node: &mut usize, (request, expected): (Request<Bytes>, Bytes)) -> Result<(), Failed> {
        let place = self.nodes[*node].places.acquire().await;
        let _place = place.context("a closed semaphore")?;
        let (answer, sender) = self.send(node, request).await?;
        let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await;
        let late = |why| Failed { begun: true, why };
        let body = body.map_err(|_| late("the answer's end does not come".to_owned()))?;
        let body = body.map_err(|error| late(format!("the answer breaks off: {error:?}")))?.to_bytes();
        if body != expected {
            return Err(late(format!("{} bytes that were not expected", body.len())));
        }
        self.keep(*node, sender);
        Ok(())
    }

    async fn download(&self, node: &mut usize) -> Result<(), Failed> {
        let (answer, sender) = self.send(node, self.get("/download").0).await?;
        let mut body = answer.into_body();
        let mut count = 0;
        loop {
            let failed = |why| Failed { begun: true, why: format!("{why} after {count} bytes") };
            match tokio::time::timeout(PATIENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => count += frame.data_ref().map_or(0, Bytes::len),
                Ok(Some(Err(error))) => return Err(failed(format!("the download breaks off: {error:?}"))),
                Ok(None) if count == DOWNLOAD_BYTES => break,
                Ok(None) => return Err(failed("the download ends".to_owned())),
                Err(_) => return Err(failed("the download stands still".to_owned())),
            }
        }
        self.keep(*node, sender);
        Ok(())
    }

    /// A WebSocket from its beginning to its proper end.
    async fn socket(&self, node: &mut usize) -> Result<(), Failed> {
        let stream = self.connect(node).await?;
        let opening = tokio_tungstenite::client_async(format!("ws://{}/socket", self.host), stream);
        let opened = tokio::time::timeout(PATIENCE, opening).await.context("the WebSocket is not answered")?;
        let (mut socket, _) = opened.context("the WebSocket is refused")?;
        for number in 0..MESSAGES {
            let message = Message::text(number.to_string());
            let talk = async {
                socket.send(message.clone()).await?;
                let answer = socket.next().await.context("the WebSocket ends")??;
                ensure!(answer == message, "the WebSocket answers {answer:?}");
                tokio::time::sleep(PAUSE).await;
                Ok(())
            };
            let said = tokio::time::timeout(PATIENCE, talk).await.context("the WebSocket is silent");
            said.and_then(|said| said)
                .map_err(|error| Failed { begun: true, why: format!("{error:#} after {number} messages") })?;
        }
        socket.close(None).await.map_err(|error| Failed { begun: true, why: format!("the WebSocket's end: {error}") })
    }

    /// Sends a request until a node has it, and waits for the head of the answer.
    async fn send(&self, node: &mut usize, request: Request<Bytes>) -> Result<(Response<Incoming>, Sender)> {
        let mut request = request.map(Full::new);
        // A connection may end before anything is sent on it; then it is another one's turn.
        for _ in 0..self.nodes.len() * TURNS {
            let mut sender = match self.idle(*node) {
                Some(sender) => sender,
                None => {
                    let stream = self.connect(node).await?;
                    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                    tokio::spawn(connection);
                    sender
                }
            };
            if sender.ready().await.is_err() {
                continue;
            }
            let sent = tokio::time::timeout(PATIENCE, sender.try_send_request(request)).await.context("no answer")?;
            match sent {
                Ok(answer) if answer.status() == 200 => return Ok((answer, sender)),
                Ok(answer) => {
                    let reason =
                        answer.headers().get("roo-error").map(|value| format!("{value:?}")).unwrap_or_default();
                    bail!("{} {reason}", answer.status());
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => bail!("sent, and no answer: {:?}", error.into_error()),
                },
            }
        }
        bail!("every connection ends before the request is sent")
    }

    /// Opens a connection to a node, or the next one that lets anybody in.
    async fn connect(&self, node: &mut usize) -> Result<TlsStream<TcpStream>> {
        let mut last = None;
        for _ in 0..self.nodes.len() * TURNS {
            let connecting = self.https.connect(self.nodes[*node].address, &self.host, &["http/1.1"]);
            match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) => {
                    stream.get_ref().0.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(error),
                Err(error) => last = Some(error.into()),
            }
            self.tally.refused();
            *node = (*node + 1) % self.nodes.len();
        }
        Err(last.context("there is no node")?.context("no node lets anybody in"))
    }

    fn idle(&self, node: usize) -> Option<Sender> {
        let mut idle = self.nodes[node].idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop_front() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection once it is ready for another request.
    fn keep(&self, node: usize, sender: Sender) {
        if !sender.is_closed() {
            self.nodes[node].idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(sender);
        }
    }
}
