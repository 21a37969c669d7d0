//! Getting a response head: connections tried in order, repeated only where nothing can happen twice.

mod http2;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::upload::{Body, Downstream, Upload, UploadFault};
use crate::access::Note;
use crate::activity::Phase;
use crate::buffer::{BUFFER_BYTES, Buffers};
use crate::codec::{Framing, HeadEnd, Malformed, Response};
use crate::connection::apart;
use crate::event::Event;
use crate::failure::Failure;
use crate::table::Entry;
use crate::upstream::Upstream;
use crate::upstream::balance::Balance;
use crate::upstream::connect::{self, ConnectError};
use crate::upstream::connection::Connection;
use crate::upstream::group::Tried;
use crate::upstream::instance::{Cause, Chosen};
use crate::upstream::pick::{self, Picked};
use crate::worker::Worker;

/// An upstream's response head, at the front of the connection's input, and what is left of the request.
pub(crate) struct Answered {
    pub(crate) connection: Box<Connection>,
    pub(crate) upload: Upload,
    /// The length of the head.
    pub(crate) head: usize,
    /// Who answered, as events name it.
    pub(crate) destination: Arc<str>,
    /// When the head was there.
    pub(crate) answered: Instant,
}

/// A final response head, and what it says of the connection.
pub(crate) struct Final<'a> {
    pub(crate) response: Response<'a>,
    pub(crate) framing: Framing,
    /// Whether the upstream would take another request behind the body.
    pub(crate) reusable: bool,
}

impl Answered {
    /// The bytes of a response's body if all of it came behind its head and the request is sent: then there is nothing
    /// left to wait for.
    pub(crate) fn whole(&self, framing: Framing) -> Option<usize> {
        let bytes = match framing {
            Framing::None => 0,
            Framing::Length(length) => usize::try_from(length).ok()?,
            Framing::Chunked | Framing::UntilClose => return None,
        };
        (self.upload.is_over() && bytes <= (self.connection.input.len() - self.head).min(BUFFER_BYTES / 2))
            .then_some(bytes)
    }

    /// The head of the response, which was to `HEAD` or not.
    ///
    /// # Errors
    ///
    /// If it is not valid, its body has no one end, or it is one that another should follow.
    pub(crate) fn read(&self, to_head: bool) -> Result<Final<'_>, Failure> {
        let read = || {
            let response = Response::parse(&self.connection.input[..self.head])?;
            if response.is_interim() {
                return Err(Malformed("the final response has the status of an interim one"));
            }
            let (fields, is_http10) = (&response.fields, response.is_http10);
            let framing = Framing::of_response(fields, is_http10, response.status, to_head)?;
            let reusable = fields.keeps(is_http10) && framing != Framing::UntilClose;
            Ok(Final { response, framing, reusable })
        };
        read().map_err(|what| {
            tracing::debug!(destination = %self.destination, %what, "an upstream's response was not valid");
            Failure::Reset
        })
    }
}

/// Why there is no response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The client is to be told.
    Failed(Failure),
    /// The client has hung up.
    Gone,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Unanswered {
        Unanswered::Failed(failure)
    }
}

/// Sends the request until an upstream has answered, or there is nothing more that is safe to try. Dropping the future
/// closes the upstream connection.
///
/// # Errors
///
/// The last failure; the proxy's owner is told if an upstream is to blame.
pub(crate) async fn send<D: Downstream>(
    worker: &Rc<Worker>,
    outgoing: &Outgoing<'_>,
    entry: &Entry,
    client: &mut D,
    note: Option<&mut Note>,
) -> Result<Answered, Unanswered> {
    let mut sending = Sending::new(worker, outgoing, entry, note);
    let first = attended(client, pick::first(worker, entry, || sending.connect_by())).await?;
    let mut picked = first.inspect_err(|failure| {
        sending.tell(entry.upstreams.list.first().map(AsRef::as_ref), *failure);
    })?;
    let mut tried = Tried::default();
    loop {
        let failure = match sending.attempt(&picked, client).await {
            Ok(mut answered) => {
                answered.connection.in_flight = Some(picked.in_flight);
                return Ok(answered);
            }
            Err(Missed::Unsent(failure) | Missed::Unheard(failure)) => failure,
            Err(Missed::Over(failure)) => {
                sending.tell(Some(&picked.instance().upstream), failure);
                return Err(failure.into());
            }
            Err(Missed::Gone) => return Err(Unanswered::Gone),
        };
        sending.tell(Some(&picked.instance().upstream), failure);
        picked = sending.another(picked, &mut tried).ok_or_else(|| sending.given_up(failure))?;
    }
}

/// Runs a future unless the client hangs up.
async fn attended<D: Downstream, F: Future>(client: &mut D, future: F) -> Result<F::Output, Unanswered> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => client.poll_gone(context).map(|()| Err(Unanswered::Gone)),
    })
    .await
}

/// Why an attempt gave no response.
enum Missed {
    /// Nothing was written: another attempt is safe.
    Unsent(Failure),
    /// It may have been seen, but may be repeated, once.
    Unheard(Failure),
    /// It may have been seen: no other attempt.
    Over(Failure),
    Gone,
}

struct Sending<'a> {
    outgoing: &'a Outgoing<'a>,
    worker: &'a Rc<Worker>,
    entry: &'a Entry,
    /// For all tries to connect together.
    connect_timeout: Duration,
    /// Its end, once it has begun.
    connect_by: Option<Instant>,
    response_timeout: Duration,
    /// A request that was written and lost is repeated once.
    may_repeat: bool,
    /// The body, as long as none of it was sent.
    body: Body,
    /// Whether every instance that was tried was out before.
    all_out: bool,
    /// What the access log wants to know, if there is one.
    note: Option<&'a mut Note>,
}

impl<'a> Sending<'a> {
    fn new(
        worker: &'a Rc<Worker>,
        outgoing: &'a Outgoing<'a>,
        entry: &'a Entry,
        note: Option<&'a mut Note>,
    ) -> Sending<'a> {
        let timeouts = &worker.shared.config.timeouts;
        let route = &entry.route;
        let request = outgoing.request;
        Sending {
            outgoing,
            worker,
            entry,
            connect_timeout: route.connect_timeout.unwrap_or(timeouts.connect),
            connect_by: None,
            response_timeout: route.response_timeout.unwrap_or(timeouts.response),
            may_repeat: request.is_idempotent() && request.framing.is_empty(),
            body: Body::untouched(!request.framing.is_empty()),
            all_out: true,
            note,
        }
    }

    /// The request goes out once more.
    fn repeats(&mut self) {
        self.entry.measures().retries.increment(1);
        if let Some(note) = &mut self.note {
            note.repeats();
        }
    }

    /// One instance: its pooled connections first, then a new one.
    async fn attempt<D: Downstream>(&mut self, picked: &Picked, client: &mut D) -> Result<Answered, Missed> {
        let instance = picked.instance();
        if let Some(note) = &mut self.note {
            note.tries(&instance.upstream.url, &instance.address);
        }
        let key = connect::key(self.worker, &instance.upstream, &instance.address, self.outgoing.peer);
        if instance.upstream.is_http2 {
            // Boxed: it is larger, and rarer.
            return apart(|| self.attempt_http2(key, picked, client)).await;
        }
        while let Some(connection) = self.worker.pool.take(&key) {
            // A stale connection says nothing about the instance.
            match self.exchange(connection, picked, client, true).await {
                Err(Missed::Unsent(_)) => {}
                Err(Missed::Unheard(failure)) if !self.entry.upstreams.may_retry() => {
                    return Err(Missed::Over(failure));
                }
                Err(Missed::Unheard(_)) => {
                    // The other ones may have ended with it, and it is repeated only once: on a new one, or elsewhere.
                    self.repeats();
                    break;
                }
                done => return done,
            }
            self.repeats();
        }
        let deadline = share(Instant::now(), self.connect_by(), picked.left);
        let (upstream, ends) = (&instance.upstream, &self.outgoing.peer.ends);
        let began = self.note.is_some().then(Instant::now);
        // Most requests find a connection: what making one needs is not theirs.
        let connecting = apart(|| connect::connect(self.worker, upstream, ends, key, deadline));
        match attended(client, connecting).await {
            Ok(Ok(connection)) => {
                if let (Some(note), Some(began)) = (&mut self.note, began) {
                    note.connected(began.elapsed());
                }
                self.exchange(connection, picked, client, false).await
            }
            Ok(Err(fault)) => Err(self.not_connected(picked, &fault)),
            Err(_) => Err(Missed::Gone),
        }
    }

    /// The instance to try after this one, if another try is allowed.
    fn another(&mut self, missed: Picked, tried: &mut Tried) -> Option<Picked> {
        let Picked { in_flight, chosen, .. } = missed;
        self.all_out &= chosen != Chosen::Turn;
        *tried.iter_mut().find(|place| place.is_none())? = Some(in_flight.0.clone());
        drop(in_flight);
        if tried.iter().all(Option::is_some) {
            return None;
        }
        let picked = pick::another(self.worker, self.entry, tried)?;
        // Whoever was sent to find out pays nothing for it.
        if chosen != Chosen::Probe && !self.entry.upstreams.may_retry() {
            return None;
        }
        self.repeats();
        Some(picked)
    }

    /// What the client is told when there is nobody left to try.
    fn given_up(&self, last: Failure) -> Failure {
        // Where it may not go it will not go later either.
        if self.all_out && last != Failure::Forbidden {
            Failure::NoHealthyUpstream { retry_after: self.entry.upstreams.retry_after() }
        } else {
            last
        }
    }

    fn connect_by(&mut self) -> Instant {
        *self.connect_by.get_or_insert_with(|| Instant::now() + self.connect_timeout)
    }

    fn not_connected(&self, picked: &Picked, fault: &ConnectError) -> Missed {
        let instance = picked.instance();
        tracing::debug!(
            route = %self.entry.origin, destination = %instance.upstream.url, address = %instance.address,
            %fault, "upstream connection failed"
        );
        if let ConnectError::Forbidden(why) = fault {
            self.worker.shared.events.tell(Event::UpstreamForbidden {
                origin: self.entry.origin.clone(),
                destination: instance.upstream.url.clone(),
                address: instance.address.to_string(),
                why,
            });
        }
        let failure = fault.failure();
        self.failed(picked, Cause::Unconnected(failure), Instant::now());
        // Whatever the fault: nothing of the request was sent.
        Missed::Unsent(failure)
    }

    /// One request on one connection.
    async fn exchange<D: Downstream>(
        &mut self,
        connection: Box<Connection>,
        picked: &Picked,
        client: &mut D,
        reused: bool,
    ) -> Result<Answered, Missed> {
        let mut head = self.worker.buffers.take();
        self.outgoing.write(&mut head, &picked.instance().upstream);
        self.converse(connection, head, picked, client, reused).await
    }

    /// Sends a head and the body that follows it, and waits for the response.
    async fn converse<D: Downstream>(
        &mut self,
        connection: Box<Connection>,
        head: BytesMut,
        picked: &Picked,
        client: &mut D,
        reused: bool,
    ) -> Result<Answered, Missed> {
        // Without a wait in between it is still the moment at which the request came.
        let began = self.connect_by.map_or(self.outgoing.began, |_| Instant::now());
        connection.activity.await_response(self.response_timeout);
        let mut attempt = Attempt {
            buffers: &self.worker.buffers,
            connection,
            upload: Upload::new(head, std::mem::take(&mut self.body)),
            end: HeadEnd::default(),
            interims: 0,
            is_new: true,
        };
        match poll_fn(|context| attempt.poll(context, client)).await {
            Ok(head) => {
                let now = Instant::now();
                self.answered(picked, status(&attempt.connection.input), began, now);
                let Attempt { connection, mut upload, .. } = attempt;
                connection.activity.enter(Phase::Exchange);
                if upload.is_over() {
                    self.worker.buffers.give(upload.take_buffer());
                }
                let destination = picked.instance().upstream.url.clone();
                Ok(Answered { connection, upload, head, destination, answered: now })
            }
            Err(lost) => Err(self.missed(lost, attempt, picked, reused)),
        }
    }

    fn missed(&mut self, lost: Lost, mut attempt: Attempt<'_>, picked: &Picked, reused: bool) -> Missed {
        let missed = match (self.missed_http2(&lost, &mut attempt), lost) {
            (Some(missed), _) => missed,
            (None, Lost::Client(failure)) => return Missed::Over(failure),
            (None, Lost::Gone) => return Missed::Gone,
            (None, Lost::Late) if attempt.upload.starved && !self.keeps_waiting(&attempt) => {
                return Missed::Over(Failure::RequestTimeout);
            }
            (None, Lost::Late) => Missed::Over(Failure::Timeout),
            (None, Lost::Malformed(what)) => {
                tracing::debug!(route = %self.entry.origin, %what, "an upstream's response was not valid");
                Missed::Over(Failure::Reset)
            }
            (None, Lost::Closed) if !attempt.upload.written => {
                self.body = attempt.upload.into_body();
                Missed::Unsent(Failure::Reset)
            }
            (None, Lost::Closed) if attempt.connection.input.is_empty() && std::mem::take(&mut self.may_repeat) => {
                Missed::Unheard(Failure::Reset)
            }
            (None, Lost::Closed) => Missed::Over(Failure::Reset),
        };
        match missed {
            Missed::Unsent(_) | Missed::Unheard(_) if reused => {}
            Missed::Unsent(failure) | Missed::Unheard(failure) | Missed::Over(failure) => {
                self.failed(picked, Cause::Unanswered(failure), Instant::now());
            }
            Missed::Gone => {}
        }
        missed
    }

    /// Accounts for an answer with this status.
    fn answered(&self, picked: &Picked, status: Option<u16>, began: Instant, now: Instant) {
        let (instance, upstreams) = (picked.instance(), &self.entry.upstreams);
        let took = now.saturating_duration_since(began);
        self.entry.measures().upstream_duration.record(took.as_secs_f64());
        if upstreams.balance == Balance::Latency {
            instance.latency.record(took, instance.age(now));
        }
        match status {
            // Whoever stands between us and the one that should answer has not reached it (RFC 9110 §15.6.3 to 15.6.5).
            Some(status @ 502..=504) => self.failed(picked, Cause::Status(status), now),
            _ => {
                if let Some(up) = upstreams.answered(instance, picked.chosen, now) {
                    self.entry.measures().up(up);
                }
            }
        }
    }

    fn failed(&self, picked: &Picked, cause: Cause, now: Instant) {
        if let Some(up) = self.entry.upstreams.failed(picked.instance(), picked.chosen, cause, now) {
            self.entry.measures().ejections.increment(1);
            self.entry.measures().up(up);
        }
    }

    /// Whether it was the upstream that kept the client from sending its body, by never giving the leave that it waits for.
    fn keeps_waiting(&self, attempt: &Attempt<'_>) -> bool {
        self.outgoing.expects() && attempt.interims == 0 && !attempt.upload.begun
    }

    fn tell(&self, upstream: Option<&Upstream>, failure: Failure) {
        if let Some(upstream) = upstream {
            self.worker.tell(self.entry, &upstream.url, failure);
        }
    }
}

/// A request under way on a connection, until its response head is there.
struct Attempt<'a> {
    buffers: &'a Buffers,
    connection: Box<Connection>,
    upload: Upload,
    end: HeadEnd,
    interims: usize,
    is_new: bool,
}

/// Why no response head came.
enum Lost {
    Client(Failure),
    Gone,
    Late,
    Malformed(Malformed),
    Closed,
}

/// Bytes of a response head.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// Interim responses to one request.
const INTERIMS_MAX: usize = 16;

impl Attempt<'_> {
    /// Sends and reads until the final head is complete: its length.
    fn poll<D: Downstream>(&mut self, context: &mut Context<'_>, client: &mut D) -> Poll<Result<usize, Lost>> {
        match self.upload.poll(context, client, &mut self.connection.stream) {
            Poll::Ready(Err(UploadFault::Client(failure))) => return Poll::Ready(Err(Lost::Client(failure))),
            // It may have answered before it closed.
            Poll::Ready(Err(UploadFault::Upstream)) => self.upload.refuse(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            match self.head(client) {
                Ok(Some(length)) => return Poll::Ready(Ok(length)),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Err(Lost::Malformed(malformed))),
            }
            match self.connection.poll_read(self.buffers, context, BUFFER_BYTES / 4) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        if self.connection.activity.poll_expired(context).is_ready() {
            return Poll::Ready(Err(Lost::Late));
        }
        // Most answers come before anybody looks whether their client is still there: that is done once a tick.
        if std::mem::take(&mut self.is_new) && self.interims == 0 {
            return Poll::Pending;
        }
        client.poll_gone(context).map(|()| Err(Lost::Gone))
    }

    /// The length of the final head, if it is complete. Interim ones are passed on.
    fn head<D: Downstream>(&mut self, client: &mut D) -> Result<Option<usize>, Malformed> {
        let input = &mut self.connection.input;
        while let Some(length) = self.end.find_parsed(input)? {
            if !seems_interim(input) {
                return Ok(Some(length));
            }
            let response = Response::parse(&input[..length])?;
            if !response.is_interim() {
                return Ok(Some(length));
            }
            client.interim(&response);
            input.advance(length);
            self.end = HeadEnd::default();
            self.interims += 1;
            if self.interims > INTERIMS_MAX {
                return Err(Malformed("there are too many interim responses"));
            }
        }
        if input.len() > HEAD_BYTES_MAX {
            return Err(Malformed("the response head is too large"));
        }
        Ok(None)
    }
}

/// Whether a status line may be of an interim response.
fn seems_interim(input: &[u8]) -> bool {
    input.get(9) == Some(&b'1')
}

/// The status in a response head.
fn status(head: &[u8]) -> Option<u16> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let &[a, b, c] = head.get(9..12)?.as_array()?;
    Some(100 * digit(a)? + 10 * digit(b)? + digit(c)?)
}

/// When a try to connect ends: an even part of the time that is left, so that an address that says
/// nothing leaves enough to those after it. The last of them has all the rest.
fn share(now: Instant, connect_by: Instant, left: usize) -> Instant {
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + connect_by.saturating_duration_since(now) / left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_share_the_time_evenly() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(share(now, after(6), 3), after(2));
        assert_eq!(share(after(2), after(6), 2), after(4));
        assert_eq!(share(after(2), after(6), 1), after(6));
        assert_eq!(share(after(7), after(6), 2), after(7));
    }
}
