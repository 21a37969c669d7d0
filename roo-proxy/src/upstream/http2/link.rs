//! One connection of HTTP/2 to an upstream, and the task that drives it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::links::Turn;
use crate::upstream::connection::UpstreamStream;

/// Exchanges at a time on one connection. A connection's window has room for the windows of all of them, so that clients
/// that read slowly never hold up others.
pub(super) const EXCHANGES_MAX: usize = 100;

/// What an upstream may send of one response before the client has taken any of it.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// What one exchange may have on its way out before the upstream has taken it.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// As in HTTP/1.
const HEAD_BYTES_MAX: u32 = 128 * 1024;

/// How long a connection in doubt may take to answer a ping.
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// A connection. Once all holders have dropped it and its exchanges are over, it ends.
pub(crate) struct Link {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    /// Exchanges under way.
    exchanges: Cell<usize>,
    /// The upstream, or the network, has ended it.
    is_over: Cell<bool>,
    /// Something did not come in time: until a ping is answered nothing new goes here.
    is_doubted: Cell<bool>,
    /// Whether it has answered a ping.
    is_settled: Cell<bool>,
    /// Why it is over, until somebody asks.
    fault: RefCell<Option<h2::Error>>,
    ping_wanted: Notify,
    answered: Notify,
    /// When the last exchange ended.
    idle_since: RefCell<Option<Instant>>,
}

impl Link {
    /// Speaks HTTP/2 from now on, and waits until the upstream does: what it allows is known then, and that it is one.
    /// Must be called on a `LocalRuntime`.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub(crate) async fn start(stream: UpstreamStream) -> Result<Link, h2::Error> {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES * EXCHANGES_MAX as u32)
            .initial_max_send_streams(EXCHANGES_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        let (sender, connection) = builder.handshake(stream).await?;
        let state = Rc::<State>::default();
        state.idle_since.replace(Some(Instant::now()));
        tokio::task::spawn_local(drive(connection, state.clone()));
        let link = Link { sender, state };
        link.settled().await?;
        // Whoever takes nothing would be asked for connections without end.
        if !link.is_open() || link.exchanges_max() == 0 {
            return Err(Reason::REFUSED_STREAM.into());
        }
        Ok(link)
    }

    /// Waits for the answer to a ping: the upstream's settings come before it (RFC 9113 §3.4).
    async fn settled(&self) -> Result<(), h2::Error> {
        while !self.state.is_settled.get() {
            let answered = self.state.answered.notified();
            self.state.ping_wanted.notify_one();
            if self.state.is_over.get() {
                return Err(self.state.fault.take().unwrap_or(Reason::NO_ERROR.into()));
            }
            answered.await;
        }
        Ok(())
    }

    /// Takes a turn for one exchange, if there is one.
    pub(super) fn turn(self: &Rc<Link>) -> Option<Turn> {
        let is_free = !self.state.is_doubted.get() && self.state.exchanges.get() < self.exchanges_max();
        (is_free && self.is_open()).then(|| Turn::new(self.clone()))
    }

    /// Whether anything new may go here at all, now or later.
    pub(super) fn is_open(&self) -> bool {
        !self.state.is_over.get() && !matches!(self.ready(), Poll::Ready(Err(_)))
    }

    /// Whether it has had no exchange for so long.
    pub(super) fn is_idle(&self, now: Instant, age: Duration) -> bool {
        let idle_since = *self.state.idle_since.borrow();
        self.state.exchanges.get() == 0 && idle_since.is_none_or(|since| now.duration_since(since) >= age)
    }

    fn exchanges_max(&self) -> usize {
        EXCHANGES_MAX.min(self.sender.current_max_send_streams())
    }

    fn ready(&self) -> Poll<Result<(), h2::Error>> {
        self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()))
    }

    pub(super) fn send(
        &self,
        request: http::Request<()>,
        is_end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.sender.clone().send_request(request, is_end)
    }

    /// Whether the upstream takes WebSockets (RFC 8441 §3).
    pub(crate) fn takes_websockets(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Lets nothing new go here until the upstream has shown that it is still there.
    pub(crate) fn doubt(&self) {
        self.state.is_doubted.set(true);
        self.state.ping_wanted.notify_one();
    }

    pub(super) fn count(&self, change: impl FnOnce(usize) -> usize) {
        let exchanges = change(self.state.exchanges.get());
        self.state.exchanges.set(exchanges);
        if exchanges == 0 {
            self.state.idle_since.replace(Some(Instant::now()));
        }
    }
}

/// Moves frames until the connection ends. Pings only who is asked after: upstreams of gRPC take frequent pings ill.
async fn drive(mut connection: Connection<UpstreamStream, Bytes>, state: Rc<State>) {
    let pings = connection.ping_pong();
    let proving = async {
        match pings {
            Some(pings) => prove(pings, &state).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = &mut connection => {
            if let Err(fault) = ended {
                tracing::debug!(%fault, "an upstream's HTTP/2 connection has ended");
                state.fault.replace(Some(fault));
            }
        }
        () = proving => tracing::debug!("an upstream's HTTP/2 connection does not answer"),
    }
    state.is_over.set(true);
    state.answered.notify_waiters();
}

/// Ends when a ping is not answered.
async fn prove(mut pings: PingPong, state: &State) {
    loop {
        state.ping_wanted.notified().await;
        let answer = tokio::time::timeout(PONG_WITHIN, pings.ping(Ping::opaque()));
        if !matches!(answer.await, Ok(Ok(_))) {
            return;
        }
        state.is_doubted.set(false);
        state.is_settled.set(true);
        state.answered.notify_waiters();
    }
}
