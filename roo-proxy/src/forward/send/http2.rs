//! Sending by HTTP/2, on connections that carry several exchanges.

use std::rc::Rc;

use bytes::BytesMut;
use tokio::time::Instant;

use super::{Answered, Attempt, Lost, Missed, Sending, attended, share};
use crate::failure::Failure;
use crate::forward::Downstream;
use crate::upstream::connect::{self, ConnectError};
use crate::upstream::connection::{Connection, UpstreamStream};
use crate::upstream::http2::{Exchange, Turn};
use crate::upstream::pick::Picked;
use crate::upstream::pool::Key;

/// Connections that a request waits for at most.
const CONNECTIONS_MAX: usize = 64;

impl Sending<'_> {
    /// One instance: a connection that others use as well, and once more a new one if the upstream has done nothing with
    /// the request (RFC 9113 §8.7).
    pub(super) async fn attempt_http2<D: Downstream>(
        &mut self,
        key: Key,
        picked: &Picked,
        client: &mut D,
    ) -> Result<Answered, Missed> {
        if let Some(turn) = self.worker.links.turn(&key) {
            match self.exchange_http2(turn, &key, picked, client, true).await {
                Err(Missed::Unsent(_)) => {}
                Err(Missed::Unheard(failure)) if !self.entry.upstreams.may_retry() => {
                    return Err(Missed::Over(failure));
                }
                Err(Missed::Unheard(_)) => {}
                done => return done,
            }
            self.entry.measures().retries.increment(1);
        }
        let deadline = share(Instant::now(), self.connect_by(), picked.left);
        let turn = match attended(client, self.new_turn(&key, picked, deadline)).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(fault)) => return Err(self.not_connected(picked, &fault)),
            Err(_) => return Err(Missed::Gone),
        };
        self.exchange_http2(turn, &key, picked, client, false).await
    }

    /// A turn on a connection that was made for it, or for others at the same time.
    async fn new_turn(&self, key: &Key, picked: &Picked, deadline: Instant) -> Result<Turn, Rc<ConnectError>> {
        // Many may wait for one connection; who never gets a turn does not make connections without end.
        for _ in 0..CONNECTIONS_MAX {
            let connect = || {
                let (worker, instance) = (self.worker.clone(), picked.instance().clone());
                let ends = self.outgoing.peer.ends;
                async move { connect::connect_http2(&worker, &instance.upstream, &instance.address, &ends, deadline).await }
            };
            let connecting = self.worker.links.connect(key.clone(), connect);
            match tokio::time::timeout_at(deadline, connecting).await {
                // Others that began it may have had less time.
                Ok(Err(fault)) if matches!(*fault, ConnectError::Timeout) && Instant::now() < deadline => continue,
                Ok(connected) => connected?,
                Err(_) => return Err(Rc::new(ConnectError::Timeout)),
            }
            // More may have waited than it has turns.
            if let Some(turn) = self.worker.links.turn(key) {
                return Ok(turn);
            }
        }
        Err(Rc::new(ConnectError::Timeout))
    }

    async fn exchange_http2<D: Downstream>(
        &mut self,
        turn: Turn,
        key: &Key,
        picked: &Picked,
        client: &mut D,
        reused: bool,
    ) -> Result<Answered, Missed> {
        let upstream = &picked.instance().upstream;
        let websockets = turn.link().takes_websockets();
        let mut head = self.worker.buffers.take();
        self.outgoing.write(&mut head, upstream);
        let activity = self.worker.sweep.activity();
        let begun = Exchange::begin(turn, &head, upstream.destination.scheme, websockets, activity.clone());
        head.clear();
        let exchange = match begun {
            Ok(Some(exchange)) => exchange,
            Ok(None) => return Err(Missed::Unsent(Failure::Reset)),
            Err(malformed) => return Err(Missed::Over(malformed.into())),
        };
        let stream = UpstreamStream::Http2(Box::new(exchange));
        let connection =
            Box::new(Connection { stream, input: BytesMut::new(), activity, key: key.clone(), in_flight: None });
        self.converse(connection, head, picked, client, reused).await
    }

    /// What no answer to a stream of HTTP/2 means; `None` if the same as in HTTP/1. Its head has gone before its upload.
    pub(super) fn missed_http2(&mut self, lost: &Lost, attempt: &mut Attempt<'_>) -> Option<Missed> {
        let input_is_empty = attempt.connection.input.is_empty();
        let exchange = attempt.connection.http2()?;
        match lost {
            Lost::Late if !attempt.upload.starved => {
                // The connection may be dead, or just the one request slow.
                exchange.doubt();
                None
            }
            Lost::Closed => {
                if exchange.lost().is_some_and(|lost| lost.unprocessed) {
                    // Whatever the method: nobody has seen it. The body must still be there as well.
                    if let Some(kept) = exchange.take_kept() {
                        self.body = attempt.upload.take_body_behind(kept);
                        return Some(Missed::Unsent(Failure::Reset));
                    }
                }
                let repeats = input_is_empty && std::mem::take(&mut self.may_repeat);
                Some(if repeats { Missed::Unheard(Failure::Reset) } else { Missed::Over(Failure::Reset) })
            }
            _ => None,
        }
    }
}
