//! One request and its response.

use std::future::poll_fn;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::downlink::{Downlink, poll_send};
use super::relay::{Broken, Relay, release};
use super::{Connection, Fate};
use crate::access::End;
use crate::activity::Phase;
use crate::answer::{self, Form};
use crate::buffer::consume;
use crate::codec::{self, Decoder, Framing, Kind, Request, Step, items, write_field, write_number};
use crate::connection::apart;
use crate::exchange::{Verdict, form, judge};
use crate::failure::Failure;
use crate::forward::{
    Answered, Final, Incoming, Unanswered, client_framing, send, tunnel, upgrade_wanted, write_connection,
    write_interim, write_status,
};
use crate::record::Record;
use crate::request_id::RequestId;
use crate::target::Target;

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Answers the request whose head is at the front of the input.
    pub(super) async fn exchange(&mut self) -> Fate {
        let head = std::mem::take(&mut self.input);
        let fate = match Request::parse_front(&head) {
            Ok((request, length)) => {
                self.keep(&head[length..]);
                self.answer(&request).await
            }
            Err(fault) => apart(|| self.refuse(fault.into())).await,
        };
        self.client.worker.buffers.give(head);
        fate
    }

    /// What was read behind a head stays in the input.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.input = self.client.worker.buffers.take();
            self.input.extend_from_slice(rest);
        }
    }

    /// Answers what is no request.
    pub(super) async fn refuse(&mut self, failure: Failure) -> Fate {
        let id = RequestId::new();
        let mut record = Record::begin(self.client.clone(), None, &id);
        record.failed(failure);
        let response = answer::failure(failure, Form::Text, &id);
        record.status = Some(response.status().as_u16());
        let mut out = self.client.worker.buffers.take();
        write_answer(&mut out, &response, &id, &How { is_http10: false, is_head: false, keeps: false }, &self.date());
        let fate = self.say(out, false).await;
        record.said(response.body().len(), fate != Fate::Cut);
        fate
    }

    async fn answer(&mut self, request: &Request<'_>) -> Fate {
        let client = self.client.clone();
        let id = RequestId::of(&request.fields, client.peer.trusted);
        let mut record = Record::begin(client.clone(), Some(request), &id);
        let failure = match judge(&client, request, &id) {
            Ok(Verdict::Forward { entry, target }) => {
                record.routed(entry);
                match self.forward(&mut record, request, &target, &id).await {
                    Ok(fate) => return fate,
                    Err(Unanswered::Gone) => return Fate::Cut,
                    Err(Unanswered::Failed(failure)) => failure,
                }
            }
            Ok(Verdict::Answer(response)) => {
                return apart(|| self.own(&mut record, request, &response, &id, true)).await;
            }
            Err(failure) => failure,
        };
        record.failed(failure);
        let response = answer::failure(failure, form(request), &id);
        apart(|| self.own(&mut record, request, &response, &id, !failure.closes())).await
    }

    /// Gives an answer of our own. The connection goes on if it `may` and the request is wholly read.
    async fn own(
        &mut self,
        record: &mut Record,
        request: &Request<'_>,
        response: &Response<Bytes>,
        id: &RequestId,
        may: bool,
    ) -> Fate {
        record.status = Some(response.status().as_u16());
        let is_http10 = request.is_http10();
        let keeps = may && self.keeps(request) && self.has_body(request);
        let mut out = std::mem::take(&mut self.unsaid);
        write_answer(&mut out, response, id, &How { is_http10, is_head: request.is_head(), keeps }, &self.date());
        let fate = self.say(out, keeps).await;
        record.said(if request.is_head() { 0 } else { response.body().len() }, fate != Fate::Cut);
        fate
    }

    /// Whether both sides would use the connection again.
    fn keeps(&self, request: &Request<'_>) -> bool {
        request.fields.keeps(request.is_http10()) && !self.client.activity.is_draining()
    }

    /// Whether the request's body has already come. It is dropped then.
    fn has_body(&mut self, request: &Request<'_>) -> bool {
        let mut body = self.unread.take().unwrap_or_else(|| Decoder::new(request.framing));
        loop {
            match body.step(&mut self.input) {
                Ok(Step::Content(bytes)) => {
                    self.input.advance(bytes);
                    body.took(bytes);
                }
                Ok(Step::End) => return true,
                Ok(Step::More) | Err(_) => return false,
            }
        }
    }

    async fn say(&mut self, mut out: BytesMut, keeps: bool) -> Fate {
        let said = async {
            self.stream.write_all_buf(&mut out).await?;
            self.stream.flush().await
        };
        let said = tokio::select! {
            said = said => said.is_ok(),
            () = self.client.activity.expired() => false,
        };
        self.client.worker.buffers.give(out);
        match (said, keeps) {
            (false, _) => Fate::Cut,
            (true, true) => Fate::Keep,
            (true, false) => Fate::Close,
        }
    }

    fn date(&self) -> String {
        self.client.worker.date.borrow().clone()
    }

    /// Has an upstream answer.
    ///
    /// # Errors
    ///
    /// If none did; the client has been told nothing yet.
    async fn forward(
        &mut self,
        record: &mut Record,
        request: &Request<'_>,
        target: &Target,
        id: &RequestId,
    ) -> Result<Fate, Unanswered> {
        let (client, entry) = (self.client.clone(), record.entry().cloned());
        let Some(entry) = entry else { return Err(Failure::NoUpstream.into()) };
        let upgrade = upgrade_wanted(request);
        let outgoing = client.outgoing(request, target, id, upgrade, record.trace.as_ref(), record.began);
        let mut downlink = Downlink::new(self, request);
        let answered = {
            // Until the head is there, the upstream's timeouts are the client's as well.
            let _waiting = client.activity.wait();
            send(&client.worker, &outgoing, &entry, &mut downlink, record.note.as_deref_mut()).await
        };
        let (body, mut out) = (downlink.body, downlink.output);
        record.received = body.content();
        let begun = answered.and_then(|answered| {
            record.answered();
            let blamed = answered.destination.clone();
            let begun = self.begin(record, request, (id, upgrade), answered, body.is_end(), &mut out);
            begun.map_err(|failure| {
                client.worker.tell(&entry, &blamed, failure);
                failure.into()
            })
        });
        match begun {
            Ok(Begun::Whole(keeps)) => Ok(self.send(record, out, keeps).await),
            // Boxed: it is larger, and rarer.
            Ok(Begun::Relay(relay, keeps)) => {
                Ok(apart(|| self.relay(record, request, *relay, (body, out), keeps)).await)
            }
            Ok(Begun::Tunnel(answered)) => Ok(apart(|| self.change(record, answered, out)).await),
            Err(unanswered) => {
                // The answer that follows goes on where this ended, on both sides.
                (self.unread, self.unsaid) = (Some(body), out);
                Err(unanswered)
            }
        }
    }

    /// Reads the upstream's head and begins the response with it. Whether the request is `whole`: what is left of one that
    /// is answered early may never come, so that nothing can follow it.
    fn begin(
        &mut self,
        record: &mut Record,
        request: &Request<'_>,
        (id, upgrade): (&RequestId, Option<&[u8]>),
        mut answered: Answered,
        whole: bool,
        out: &mut BytesMut,
    ) -> Result<Begun, Failure> {
        let worker = &self.client.worker;
        if out.capacity() == 0 {
            *out = worker.buffers.take();
        }
        let Final { response, framing, reusable } = answered.read(request.is_head())?;
        if response.status == 101 {
            // To a protocol that nobody asked for nothing more can be made of it.
            if !upgrade.is_some_and(|asked| changes_to(&response, asked)) {
                return Err(Failure::Reset);
            }
            record.status = Some(101);
            write_interim(out, &response, Some(id));
            answered.connection.input.advance(answered.head);
            return Ok(Begun::Tunnel(answered));
        }
        let is_http10 = request.is_http10();
        let status = response.status;
        let towards = client_framing(framing, is_http10);
        let keeps = whole && self.keeps(request) && towards != Framing::UntilClose;
        let date = worker.date.borrow();
        Incoming { response: &response, id, framing: towards, is_http10, keeps, date: &date }.write(out);
        record.status = Some(status);
        let Some(bytes) = answered.whole(framing) else {
            answered.connection.input.advance(answered.head);
            return Ok(Begun::Relay(Box::new(Relay::new(answered, framing, towards, reusable)), keeps));
        };
        let Answered { mut connection, upload, head, answered: at, .. } = answered;
        out.extend_from_slice(&connection.input[head..head + bytes]);
        consume(&mut connection.input, head + bytes);
        (record.sent, record.ended) = (bytes as u64, Some(at));
        release(connection, reusable && upload.is_complete(), worker);
        Ok(Begun::Whole(keeps))
    }

    /// Sends a whole response. It counts as sent as far as it could be.
    async fn send(&mut self, record: &mut Record, mut out: BytesMut, keeps: bool) -> Fate {
        let activity = self.client.activity.clone();
        let stream = &mut self.stream;
        let sent = poll_fn(|context| {
            let polled = poll_send(stream, context, &mut out);
            if polled.is_ready() {
                return polled.map_err(|_| Broken::Client);
            }
            record.ended = None;
            activity.poll_expired(context).map(|()| Err(Broken::Stuck))
        })
        .await;
        record.end = sent.map_or_else(End::from, |()| End::Whole);
        record.sent = record.sent.saturating_sub(out.len() as u64);
        self.client.worker.buffers.give(out);
        match sent {
            Err(_) => Fate::Cut,
            Ok(()) if keeps => Fate::Keep,
            Ok(()) => Fate::Close,
        }
    }

    /// Passes on the rest of both bodies.
    async fn relay(
        &mut self,
        record: &mut Record,
        request: &Request<'_>,
        mut relay: Relay,
        (body, out): (Decoder, BytesMut),
        keeps: bool,
    ) -> Fate {
        let worker = self.client.worker.clone();
        let activity = self.client.activity.clone();
        // However it breaks off then, by a panic even: an orderly end would pass for that of the response.
        activity.resets.set(relay.ends_by_close());
        let mut downlink = Downlink::resume(self, request, body, out);
        // A small response is passed on as soon as its head is there.
        record.ended = Some(relay.began);
        let ended = poll_fn(|context| {
            let polled = relay.poll(context, &worker.buffers, &mut downlink);
            if polled.is_ready() {
                return polled;
            }
            record.ended = None;
            // A body that has stopped moving, on either side.
            if activity.poll_expired(context).is_ready() || relay.connection.activity.poll_expired(context).is_ready() {
                return std::task::Poll::Ready(Err(Broken::Stuck));
            }
            polled
        })
        .await;
        (record.received, record.sent) = (downlink.body.content(), relay.body.content());
        record.end = ended.map_or_else(End::from, |()| End::Whole);
        worker.buffers.give(std::mem::take(&mut downlink.output));
        if ended.is_ok() {
            activity.resets.set(false);
        }
        relay.release(&worker);
        match ended {
            Err(_) => Fate::Cut,
            Ok(()) if keeps => Fate::Keep,
            Ok(()) => Fate::Close,
        }
    }

    /// Changes the protocol, for as long as the connection lasts.
    async fn change(&mut self, record: &mut Record, answered: Answered, out: BytesMut) -> Fate {
        if self.say(out, true).await == Fate::Keep {
            record.end = End::Whole;
            let client = self.client.clone();
            tunnel(&client, &mut self.stream, &mut self.input, answered.connection).await;
            client.activity.enter(Phase::Untimed);
        }
        Fate::Cut
    }
}

/// What a response head leads to.
enum Begun {
    /// A response of which all is there and put down to be sent, and whether the connection goes on after it.
    Whole(bool),
    /// A body, and whether the connection goes on after it.
    Relay(Box<Relay>, bool),
    /// Another protocol.
    Tunnel(Answered),
}

/// Whether a response changes to one of the protocols that were asked for, and to no other (RFC 9110 §7.8).
fn changes_to(response: &codec::Response<'_>, asked: &[u8]) -> bool {
    let mut chosen = response.fields.of_kind(Kind::Upgrade).flat_map(items).peekable();
    chosen.peek().is_some() && chosen.all(|chosen| items(asked).any(|asked| asked.eq_ignore_ascii_case(chosen)))
}

/// How an answer is written.
struct How {
    is_http10: bool,
    is_head: bool,
    keeps: bool,
}

/// Appends an answer of our own; for HEAD with the length of the body that it leaves out.
fn write_answer(out: &mut BytesMut, response: &Response<Bytes>, id: &RequestId, how: &How, date: &str) {
    write_status(out, how.is_http10, response.status().as_u16(), b"");
    for (name, value) in response.headers() {
        write_field(out, name.as_str(), value.as_bytes());
    }
    write_field(out, "date", date.as_bytes());
    id.write(out);
    write_connection(out, how.is_http10, how.keeps);
    write_number(out, "content-length", response.body().len() as u64);
    out.extend_from_slice(b"\r\n");
    if !how.is_head {
        out.extend_from_slice(response.body());
    }
}

/// The bytes of an answer to whoever has asked nothing yet.
pub(super) fn unasked(failure: Failure) -> BytesMut {
    let (id, mut out) = (RequestId::new(), BytesMut::new());
    let response = answer::failure(failure, Form::Text, &id);
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    write_answer(&mut out, &response, &id, &How { is_http10: false, is_head: false, keeps: false }, &date);
    out
}
