//! One exchange on a stream of HTTP/2, as a connection of HTTP/1 that ends with it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Turn;
use super::head;
use crate::activity::Activity;
use crate::buffer::BUFFER_BYTES;
use crate::codec::{Decoder, Encoder, Framing, Malformed, Request, Step};
use crate::origin::Scheme;
use crate::websocket::WEBSOCKET;

/// A stream that takes what HTTP/1 would send behind a request's head, and gives what HTTP/1 would have answered.
/// Dropped before its end it is reset, so that the upstream hears of it (`CANCEL`).
pub(crate) struct Exchange {
    request: RequestSide,
    response: ResponseSide,
    /// What has come, until it is read.
    input: BytesMut,
    activity: Rc<Activity>,
    lost: Option<Lost>,
    /// Frees the place on the connection last.
    turn: Turn,
}

/// How a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Whether the upstream has done nothing with the request (RFC 9113 §8.7).
    pub(crate) unprocessed: bool,
    /// What the upstream said of it, if it did.
    pub(crate) reason: Option<Reason>,
}

struct RequestSide {
    stream: SendStream<Bytes>,
    /// The body's coding in `coded`.
    body: Decoder,
    coded: BytesMut,
    /// What was taken so far, as long as all of it is kept: should the upstream refuse the stream, another may get it.
    kept: Option<BytesMut>,
    is_ended: bool,
}

enum ResponseSide {
    /// With the key of a client that asks for a WebSocket.
    Head(ResponseFuture, Option<Vec<u8>>),
    Body(RecvStream, Encoder),
    End,
}

/// Bytes of a body that are kept until the response begins.
const KEPT_BYTES_MAX: usize = 64 * 1024;

impl Exchange {
    /// Begins an exchange with a request whose head is given in HTTP/1. A WebSocket that it asks for is asked for here
    /// too if `websockets`.
    ///
    /// # Errors
    ///
    /// If the head can't be said in HTTP/2; `None` if the connection takes nothing any more.
    pub(crate) fn begin(
        turn: Turn,
        head: &[u8],
        scheme: Scheme,
        websockets: bool,
        activity: Rc<Activity>,
    ) -> Result<Option<Exchange>, Malformed> {
        let head = Request::parse(head).map_err(|_| Malformed("the request head is not valid"))?;
        let key = head::websocket_key(&head).filter(|_| websockets);
        let request = head::request(&head, scheme, key.map(|_| Protocol::from_static(WEBSOCKET)))?;
        let is_end = head.framing.is_empty() && key.is_none();
        let Ok((response, stream)) = turn.link().send(request, is_end) else { return Ok(None) };
        let request = RequestSide {
            stream,
            // Behind a WebSocket's request everything is its content.
            body: Decoder::new(if key.is_some() { Framing::UntilClose } else { head.framing }),
            coded: BytesMut::new(),
            kept: Some(BytesMut::new()),
            is_ended: is_end,
        };
        let response = ResponseSide::Head(response, key.map(<[u8]>::to_vec));
        Ok(Some(Exchange { request, response, input: BytesMut::new(), activity, lost: None, turn }))
    }

    /// How it was lost, if it was.
    pub(crate) fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// The body as far as it was taken, if that is all still there and another upstream may have it.
    pub(crate) fn take_kept(&mut self) -> Option<BytesMut> {
        self.request.kept.take()
    }

    /// Whether nothing follows what was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.input.is_empty() && matches!(self.response, ResponseSide::End)
    }

    /// The reason that the upstream gave for breaking off, if it did.
    pub(crate) fn reset(&self) -> Option<Reason> {
        self.lost.and_then(|lost| lost.reason)
    }

    /// The connection has not kept a deadline.
    pub(crate) fn doubt(&self) {
        self.turn.link().doubt();
    }

    /// Reads more into `input`; `false` at the end.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        match &mut self.response {
            ResponseSide::Head(response, key) => {
                if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
                    let (interim, ()) = interim?.into_parts();
                    head::write_interim(&mut self.input, &interim);
                    return Poll::Ready(Ok(true));
                }
                let (head, body) = ready!(Pin::new(response).poll(context))?.into_parts();
                let is_end = body.is_end_stream();
                let coding = match key {
                    Some(key) if head.status.is_success() => {
                        head::write_websocket(&mut self.input, &head, key);
                        Framing::UntilClose
                    }
                    _ => {
                        let coding = head::coding(&head, is_end);
                        head::write_response(&mut self.input, &head, coding);
                        coding
                    }
                };
                self.request.kept = None;
                self.response = if is_end { ResponseSide::End } else { ResponseSide::Body(body, Encoder::new(coding)) };
                Poll::Ready(Ok(true))
            }
            ResponseSide::Body(body, encoder) => match ready!(body.poll_data(context)).transpose()? {
                Some(data) => {
                    self.activity.read(data.len());
                    encoder.content(&mut self.input, &data);
                    // There is at most one frame in between: what is not read holds the upstream up.
                    body.flow_control().release_capacity(data.len())?;
                    Poll::Ready(Ok(true))
                }
                None => {
                    let trailers = ready!(body.poll_trailers(context))?;
                    encoder.end(&mut self.input, trailers.as_ref());
                    self.response = ResponseSide::End;
                    Poll::Ready(Ok(true))
                }
            },
            ResponseSide::End => Poll::Ready(Ok(false)),
        }
    }

    fn lose(&mut self, fault: &h2::Error) -> io::Error {
        self.lost = Some(Lost::of(fault));
        io::Error::other(fault.to_string())
    }
}

impl Lost {
    fn of(fault: &h2::Error) -> Lost {
        let refused = fault.is_reset() && fault.reason() == Some(Reason::REFUSED_STREAM);
        let unprocessed = fault.is_remote() && (refused || fault.is_go_away());
        let reason = fault.reason().filter(|_| fault.is_remote() && fault.is_reset());
        Lost { unprocessed, reason }
    }
}

impl RequestSide {
    /// Passes on what has come of the body, as far as the upstream takes it. Ready once nothing is left.
    fn poll_pour(&mut self, context: &mut Context<'_>, activity: &Activity) -> Poll<Result<(), h2::Error>> {
        while !self.is_ended {
            match self.body.step(&mut self.coded) {
                Ok(Step::Content(bytes)) => {
                    let room = ready!(self.poll_room(context, bytes))?;
                    let data = self.coded.split_to(bytes.min(room)).freeze();
                    activity.wrote(data.len());
                    self.body.took(data.len());
                    let at_end = matches!(self.body.step(&mut self.coded), Ok(Step::End));
                    let trailers = if at_end { self.body.take_trailers() } else { None };
                    self.stream.send_data(data, at_end && trailers.is_none())?;
                    self.is_ended = at_end;
                    if let Some(trailers) = trailers {
                        self.stream.send_trailers(trailers)?;
                    }
                }
                Ok(Step::End) => {
                    let trailers = self.body.take_trailers();
                    self.end(trailers)?;
                }
                Ok(Step::More) => return Poll::Ready(Ok(())),
                // We have coded it ourselves.
                Err(_) => return Poll::Ready(Err(Reason::INTERNAL_ERROR.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), h2::Error> {
        self.is_ended = true;
        match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        }
    }

    /// How much the upstream takes now, at least one byte.
    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, h2::Error>> {
        loop {
            match self.stream.capacity() {
                0 => self.stream.reserve_capacity(wanted),
                room => return Poll::Ready(Ok(room)),
            }
            match ready!(self.stream.poll_capacity(context)) {
                Some(room) => room?,
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            };
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.kept {
            if kept.len() + bytes.len() > KEPT_BYTES_MAX {
                self.kept = None;
            } else {
                kept.extend_from_slice(bytes);
            }
        }
    }
}

impl AsyncRead for Exchange {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.input.is_empty() {
            match ready!(self.poll_input(context)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Ok(())),
                Err(fault) => return Poll::Ready(Err(self.lose(&fault))),
            }
        }
        let bytes = self.input.len().min(buffer.remaining());
        buffer.put_slice(&self.input[..bytes]);
        self.input.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Exchange {
    /// Takes a buffer's worth once the one before is gone: what the upstream does not take holds the client up.
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(context))?;
        let taken = &bytes[..bytes.len().min(BUFFER_BYTES)];
        self.request.coded.extend_from_slice(taken);
        self.request.keep(taken);
        // It is taken, whatever comes of it: a fault is told to the next who asks.
        let _ = self.as_mut().poll_flush(context);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Exchange { request, activity, .. } = &mut *self;
        // How the stream ended, if it did, the response's side tells.
        request.poll_pour(context, activity).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        if !self.request.is_ended {
            self.request.end(None).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}
