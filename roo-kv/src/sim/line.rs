//! One connection between two hosts, and the exchanges on it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::network::{Network, Port};
use crate::id::NodeId;
use crate::peer::{Body, respond};

/// A connection. Frames in one direction arrive in the order in which they were sent.
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) client: usize,
    pub(super) server: usize,
    network: Network,
    client_node: NodeId,
    client_ip: IpAddr,
    /// Until the line breaks: nodes hold their lines, and a line its server.
    port: Mutex<Option<Port>>,
    ends: Mutex<Ends>,
}

#[derive(Default)]
struct Ends {
    broken: bool,
    /// The hosts whose end is gone without a word.
    deaf: Vec<usize>,
    stalled_since: Option<u64>,
    next_exchange: u64,
    exchanges: BTreeMap<u64, Exchange>,
    /// On the way to the server, and to the client.
    ways: [Way; 2],
}

#[derive(Default)]
struct Way {
    frames: VecDeque<(u64, Box<dyn FnOnce() + Send>)>,
    latest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

type Frames = mpsc::UnboundedSender<io::Result<Bytes>>;

/// One request and its answer.
struct Exchange {
    head: Option<oneshot::Sender<Response<Body>>>,
    to_client: Option<Frames>,
    to_server: Option<Frames>,
    serving: Option<AbortHandle>,
}

impl Line {
    pub(super) fn new(
        id: u64,
        network: Network,
        client: usize,
        client_node: NodeId,
        client_ip: IpAddr,
        port: Port,
    ) -> Self {
        let (server, port) = (port.host, Mutex::new(Some(port)));
        Self { id, client, server, network, client_node, client_ip, port, ends: Mutex::default() }
    }

    pub(super) fn touches(&self, host: usize) -> bool {
        self.client == host || self.server == host
    }

    pub(super) fn is_broken(&self) -> bool {
        self.ends().broken
    }

    /// The host's end says and hears nothing any more.
    pub(super) fn deafen(&self, host: usize) {
        self.ends().deaf.push(host);
    }

    /// Since when nothing gets through in some direction.
    pub(super) fn stalled_since(&self, now: u64) -> Option<u64> {
        let (there, back) =
            (self.network.is_cut(self.client, self.server), self.network.is_cut(self.server, self.client));
        let mut ends = self.ends();
        if there || back || !ends.deaf.is_empty() {
            Some(*ends.stalled_since.get_or_insert(now))
        } else {
            ends.stalled_since = None;
            None
        }
    }

    /// Lets go of the server.
    pub(super) fn part(&self) {
        let port = self.port.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(port);
    }

    /// Loses what is on the way; both ends notice.
    pub(super) fn reset(&self) {
        self.part();
        let exchanges = {
            let mut ends = self.ends();
            if std::mem::replace(&mut ends.broken, true) {
                return;
            }
            ends.ways = Default::default();
            std::mem::take(&mut ends.exchanges)
        };
        self.network.note(format_args!("reset {} {}->{}", self.id, self.client, self.server), &[]);
        for exchange in exchanges.into_values() {
            for frames in [exchange.to_client, exchange.to_server].into_iter().flatten() {
                drop(frames.send(Err(io::ErrorKind::ConnectionReset.into())));
            }
            if let Some(serving) = exchange.serving {
                serving.abort();
            }
        }
        self.network.drop_line(self.id);
    }

    /// Lets go of what a cut has held back.
    pub(super) fn resume(self: &Arc<Self>) {
        for direction in [Direction::Up, Direction::Down] {
            let line = Arc::clone(self);
            self.network.after(1, move || line.arrive(direction));
        }
    }

    /// Sends a request and waits for the head of the answer. Dropping the future, or the answer's body, tells the server.
    pub(super) async fn send(self: Arc<Self>, request: Request<Body>) -> io::Result<Response<Body>> {
        let (head, answered) = oneshot::channel();
        let (to_client, answer_frames) = mpsc::unbounded_channel();
        let (to_server, request_frames) = mpsc::unbounded_channel();
        let number = {
            let mut ends = self.ends();
            if ends.broken {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            ends.next_exchange += 1;
            let number = ends.next_exchange;
            let (to_client, to_server) = (Some(to_client), Some(to_server.clone()));
            ends.exchanges.insert(number, Exchange { head: Some(head), to_client, to_server, serving: None });
            number
        };
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let line = Arc::clone(&self);
        self.transmit(Direction::Up, number, &path, &[], move || {
            line.serve(number, Request::from_parts(parts, received(request_frames)));
        });
        let sending = tokio::spawn(Arc::clone(&self).pump(Direction::Up, number, body, to_server));
        let caller = Caller { line: Arc::clone(&self), number, sending: sending.abort_handle() };
        let response = answered.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
        Ok(response.map(|_| {
            // Whoever holds the body is the caller.
            let frames = stream::unfold((answer_frames, caller), |(mut frames, caller)| async move {
                let frame = frames.recv().await?;
                Some((frame.map(Frame::data), (frames, caller)))
            });
            StreamBody::new(frames).boxed_unsync()
        }))
    }

    /// A request has arrived.
    fn serve(self: &Arc<Self>, number: u64, request: Request<Body>) {
        let line = Arc::clone(self);
        let Some(port) = self.port.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let serving = port.runtime.spawn(async move {
            let answer = respond(&*port.handler, line.client_node, line.client_ip, request).await;
            let (parts, body) = answer.into_parts();
            let (frames, head) = {
                let mut ends = line.ends();
                let exchange = ends.exchanges.get_mut(&number);
                exchange.map_or((None, None), |exchange| (exchange.to_client.take(), exchange.head.take()))
            };
            let (Some(frames), Some(head)) = (frames, head) else { return };
            if let Some(exchange) = line.ends().exchanges.get_mut(&number) {
                exchange.to_client = Some(frames.clone());
            }
            let status = parts.status.to_string();
            line.transmit(Direction::Down, number, &status, &[], move || {
                drop(head.send(Response::from_parts(parts, Body::default())));
            });
            line.pump(Direction::Down, number, body, frames).await;
        });
        if let Some(exchange) = self.ends().exchanges.get_mut(&number) {
            exchange.serving = Some(serving.abort_handle());
        }
    }

    async fn pump(self: Arc<Self>, direction: Direction, number: u64, mut body: Body, frames: Frames) {
        loop {
            let (frame, last) = match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => (Ok(bytes), false),
                    Err(_) => continue,
                },
                Some(Err(error)) => (Err(io::Error::other(error.to_string())), true),
                None => break,
            };
            let bytes = frame.as_ref().map(Bytes::clone).unwrap_or_default();
            let arriving = frames.clone();
            self.transmit(direction, number, "data", &bytes, move || drop(arriving.send(frame)));
            if last {
                break;
            }
        }
        let line = Arc::clone(&self);
        self.transmit(direction, number, "end", &[], move || {
            drop(frames);
            line.end(direction, number);
        });
    }

    /// One side of an exchange has ended.
    fn end(&self, direction: Direction, number: u64) {
        let mut ends = self.ends();
        let Some(exchange) = ends.exchanges.get_mut(&number) else { return };
        let ended = match direction {
            Direction::Up => exchange.to_server.take(),
            Direction::Down => exchange.to_client.take(),
        };
        if exchange.to_server.is_none() && exchange.to_client.is_none() {
            ends.exchanges.remove(&number);
        }
        drop((ends, ended));
    }

    fn transmit(
        self: &Arc<Self>,
        direction: Direction,
        number: u64,
        what: &str,
        bytes: &[u8],
        arrival: impl FnOnce() + Send + 'static,
    ) {
        let (from, to) = self.hosts(direction);
        let delay = self.network.delay(from, to);
        let now = self.network.now();
        let mut ends = self.ends();
        if ends.broken || ends.deaf.contains(&from) {
            return;
        }
        let way = &mut ends.ways[direction as usize];
        way.latest = way.latest.max(now + delay);
        let at = way.latest;
        let (id, size) = (self.id, bytes.len());
        self.network.note(format_args!("{from}->{to} {id}.{number} {what} {size}"), bytes);
        way.frames.push_back((at, Box::new(arrival)));
        drop(ends);
        let line = Arc::clone(self);
        self.network.after(at - now, move || line.arrive(direction));
    }

    fn arrive(&self, direction: Direction) {
        let (from, to) = self.hosts(direction);
        let now = self.network.now();
        loop {
            if self.network.is_cut(from, to) {
                return;
            }
            let mut ends = self.ends();
            if ends.deaf.contains(&to) {
                return;
            }
            let way = &mut ends.ways[direction as usize];
            if way.frames.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((_, arrival)) = way.frames.pop_front() else { return };
            drop(ends);
            arrival();
        }
    }

    fn hosts(&self, direction: Direction) -> (usize, usize) {
        match direction {
            Direction::Up => (self.client, self.server),
            Direction::Down => (self.server, self.client),
        }
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for an answer; gone before its end, the server is told to stop.
struct Caller {
    line: Arc<Line>,
    number: u64,
    sending: AbortHandle,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.sending.abort();
        if !self.line.ends().exchanges.contains_key(&self.number) {
            return;
        }
        let (line, number) = (Arc::clone(&self.line), self.number);
        self.line.transmit(Direction::Up, number, "cancel", &[], move || {
            let exchange = line.ends().exchanges.remove(&number);
            let Some(exchange) = exchange else { return };
            if let Some(frames) = &exchange.to_server {
                drop(frames.send(Err(io::ErrorKind::ConnectionReset.into())));
            }
            if let Some(serving) = &exchange.serving {
                serving.abort();
            }
        });
    }
}

fn received(frames: mpsc::UnboundedReceiver<io::Result<Bytes>>) -> Body {
    let frames = stream::unfold(frames, |mut frames| async move { Some((frames.recv().await?, frames)) });
    StreamBody::new(frames.map(|frame| frame.map(Frame::data))).boxed_unsync()
}
