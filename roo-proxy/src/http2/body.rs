//! Bodies of HTTP/2: never held, only passed on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::Reason;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::task::AbortOnDropHandle;

use crate::access::End;
use crate::buffer::room;
use crate::codec::{Decoder, Encoder, Framing, Response, Step, only_passable};
use crate::failure::Failure;
use crate::forward::{Answered, Downstream, More, Upload, UploadFault};
use crate::record::Record;
use crate::upstream::connection::Connection;
use crate::worker::Worker;

/// A request's body on its way up.
pub(super) struct RequestBody {
    incoming: Incoming,
    encoder: Encoder,
    /// Bytes of content so far.
    content: u64,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, framing: Framing) -> RequestBody {
        RequestBody { incoming, encoder: Encoder::new(framing), content: 0 }
    }

    pub(super) fn content(&self) -> u64 {
        self.content
    }
}

impl Downstream for RequestBody {
    fn poll_body(&mut self, context: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<More, Failure>> {
        let broken = Failure::BadRequest { why: "the request body broke off" };
        let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(context)) else {
            self.encoder.end(out, None);
            return Poll::Ready(Ok(More::No));
        };
        Poll::Ready(match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                self.content += data.len() as u64;
                self.encoder.content(out, &data);
                Ok(More::Yes)
            }
            Ok(Err(frame)) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                only_passable(&mut trailers);
                self.encoder.end(out, Some(&trailers));
                Ok(More::No)
            }
            Err(_) => Err(broken),
        })
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // A stream that is reset takes the whole exchange with it.
        Poll::Pending
    }

    fn interim(&mut self, _: &Response<'_>) {
        // hyper has no way to send one.
    }
}

/// A response body towards a client. When it has ended, or is dropped, its exchange is over.
pub(super) struct ResponseBody {
    kind: Kind,
    /// Accounts for the exchange when dropped.
    record: Option<Record>,
}

enum Kind {
    /// Our own answer, and whether anybody has taken it.
    Own(Bytes, bool),
    Upstream {
        upstream: Rc<RefCell<Upstream>>,
        /// Ends with the body.
        _attendant: Option<AbortOnDropHandle<()>>,
    },
}

/// What an upstream still has to say, and to hear.
struct Upstream {
    worker: Rc<Worker>,
    /// Gone once it is given back.
    connection: Option<Box<Connection>>,
    body: Decoder,
    upload: Upload,
    request: RequestBody,
    /// Whether the upstream would take another request.
    reusable: bool,
    /// How the response broke off, and for which reason of the upstream's or of ours.
    broken: Option<End>,
    reason: Reason,
    /// Of the task that waits for the response.
    waker: Option<Waker>,
}

impl ResponseBody {
    pub(super) fn own(bytes: Bytes) -> ResponseBody {
        let is_taken = bytes.is_empty();
        ResponseBody { kind: Kind::Own(bytes, is_taken), record: None }
    }

    pub(super) fn upstream(
        worker: Rc<Worker>,
        answered: Answered,
        framing: Framing,
        request: RequestBody,
        reusable: bool,
    ) -> ResponseBody {
        let Answered { connection, upload, .. } = answered;
        let (body, connection) = (Decoder::new(framing), Some(connection));
        let mut upstream = Upstream {
            worker,
            connection,
            body,
            upload,
            request,
            reusable,
            broken: None,
            reason: Reason::INTERNAL_ERROR,
            waker: None,
        };
        if upstream.body.is_end() {
            upstream.release();
        }
        let needs_attendance = upstream.needs_attendance();
        let upstream = Rc::new(RefCell::new(upstream));
        let attendant = needs_attendance.then(|| {
            let attended = upstream.clone();
            let attend = poll_fn(move |context| attended.borrow_mut().attend(context));
            AbortOnDropHandle::new(tokio::task::spawn_local(attend))
        });
        ResponseBody { kind: Kind::Upstream { upstream, _attendant: attendant }, record: None }
    }

    /// Lets the exchange last as long as the body.
    pub(super) fn recorded(mut self, record: Option<Record>) -> ResponseBody {
        self.record = record;
        self
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some(record) = &mut self.record else { return };
        match &self.kind {
            Kind::Own(bytes, is_taken) => record.said(bytes.len(), *is_taken),
            Kind::Upstream { upstream, .. } => {
                let upstream = upstream.borrow();
                (record.received, record.sent) = (upstream.request.content(), upstream.body.content());
                record.end = if upstream.is_end() { End::Whole } else { upstream.broken.unwrap_or_default() };
            }
        }
    }
}

type Framed = Option<Result<Frame<Bytes>, BrokenOff>>;

/// The response broke off. The stream is reset for the reason that the upstream gave, if it gave one.
#[derive(Debug, thiserror::Error)]
#[error("the response broke off")]
pub(super) struct BrokenOff(#[source] h2::Error);

impl Upstream {
    /// Whether anything is to be done besides taking what has come already.
    fn needs_attendance(&self) -> bool {
        let at_hand = |connection: &Connection| connection.input.len() as u64;
        self.connection.as_ref().is_some_and(|connection| {
            !self.upload.is_over() || self.body.length().is_none_or(|length| length > at_hand(connection))
        })
    }

    /// Sends the rest of the request, and gives up an upstream that has stopped moving. Both go on while the client takes
    /// nothing of the response, when nobody asks for more of that.
    fn attend(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = self.connection.as_mut().filter(|_| self.broken.is_none()) else {
            return Poll::Ready(());
        };
        match self.upload.poll(context, &mut self.request, &mut connection.stream) {
            Poll::Ready(Err(UploadFault::Client(_))) => {
                self.give_up(End::Left);
                return Poll::Ready(());
            }
            // It has answered without the rest.
            Poll::Ready(Err(UploadFault::Upstream)) => self.upload.refuse(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        connection.activity.poll_expired(context).map(|()| self.give_up(End::Stuck))
    }

    fn give_up(&mut self, end: End) {
        self.broken = Some(end);
        self.connection = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next of the response. That it broke off is told a turn later: a stream that is reset loses what is still
    /// queued for it, and that is the client's all the same.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Framed> {
        if self.broken.is_none() {
            let Poll::Ready(advanced) = self.advance(context) else {
                self.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            match advanced {
                Ok(frame) => return Poll::Ready(frame.map(Ok)),
                Err(Broken) => {
                    self.broken = Some(End::Broken);
                    let reset = self.connection.as_mut().and_then(|connection| connection.http2()?.reset());
                    self.reason = reset.unwrap_or(self.reason);
                }
            }
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(BrokenOff(self.reason.into()))))
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        loop {
            match self.body.step(&mut connection.input).map_err(|_| Broken)? {
                Step::Content(bytes) => {
                    let data = take(&mut connection.input, bytes);
                    self.body.took(bytes);
                    if self.body.is_end() {
                        self.release();
                    }
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Step::End => return Poll::Ready(Ok(self.end())),
                Step::More => {}
            }
            let room = room(self.body.expects());
            match connection.poll_read(&self.worker.buffers, context, room) {
                // Only an orderly end ends a body that has no length.
                Poll::Ready(Ok(0)) if self.body.closed() => return Poll::Ready(Ok(self.end())),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn end(&mut self) -> Option<Frame<Bytes>> {
        let trailers = self.body.take_trailers();
        self.release();
        trailers.map(Frame::trailers)
    }

    fn is_end(&self) -> bool {
        self.connection.is_none() && self.broken.is_none()
    }

    /// Gives back what others can use. A connection with something left to say or to hear is closed.
    fn release(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        self.worker.buffers.give(self.upload.take_buffer());
        if connection.input.is_empty() {
            self.worker.buffers.give(std::mem::take(&mut connection.input));
            if self.reusable && self.upload.is_complete() {
                self.worker.pool.put(connection);
            }
        }
    }
}

/// Content in a form of its own: small pieces are copied, so that the buffer stays whole.
fn take(input: &mut BytesMut, bytes: usize) -> Bytes {
    if bytes > COPIED_BYTES_MAX {
        return input.split_to(bytes).freeze();
    }
    let data = Bytes::copy_from_slice(&input[..bytes]);
    input.advance(bytes);
    data
}

const COPIED_BYTES_MAX: usize = 4 * 1024;

/// The response could not be passed on whole.
struct Broken;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Framed> {
        match &mut self.kind {
            Kind::Own(bytes, is_taken) => {
                let is_new = !std::mem::replace(is_taken, true);
                Poll::Ready(is_new.then(|| Ok(Frame::data(bytes.clone()))))
            }
            Kind::Upstream { upstream, .. } => upstream.borrow_mut().poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(_, is_taken) => *is_taken,
            Kind::Upstream { upstream, .. } => upstream.borrow().is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(_, true) => SizeHint::with_exact(0),
            Kind::Own(bytes, false) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream { upstream, .. } => match upstream.borrow().body.length() {
                Some(length) => SizeHint::with_exact(length),
                None => SizeHint::default(),
            },
        }
    }
}
