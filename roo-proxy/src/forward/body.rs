//! Bodies on their way through: never held, only passed on.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::identity;
use crate::exchange::Record;
use crate::upstream::pool::Lease;

/// A request body towards an upstream.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    progress: Rc<Progress>,
}

/// How far a request body is, for whoever waits for the response.
pub(crate) struct Progress {
    /// When the last frame passed, or the request went out.
    at: Cell<Instant>,
    /// Whether the upstream asked for more and the client has not sent it.
    starved: Cell<bool>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming) -> RequestBody {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        RequestBody { incoming, progress: Progress::new() }
    }

    /// A body without content.
    pub(crate) fn empty() -> RequestBody {
        RequestBody { incoming: None, progress: Progress::new() }
    }

    pub(crate) fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }
}

impl Progress {
    fn new() -> Rc<Progress> {
        Rc::new(Progress { at: Cell::new(Instant::now()), starved: Cell::new(false) })
    }

    pub(crate) fn at(&self) -> Instant {
        self.at.get()
    }

    /// The request goes out now: what was spent on finding a connection does not count.
    pub(crate) fn begin(&self, now: Instant) {
        self.at.set(now);
    }

    pub(crate) fn is_starved(&self) -> bool {
        self.starved.get()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(incoming).poll_frame(context);
        this.progress.starved.set(polled.is_pending());
        if polled.is_pending() {
            return polled;
        }
        this.progress.at.set(Instant::now());
        polled.map(|frame| frame.map(|frame| frame.map(without_claims)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// Trailers may end up among the fields: what is not believed there is not believed here.
fn without_claims(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        identity::drop_claims(trailers, false);
    }
    frame
}

/// A response body towards a client. When it has ended, or is dropped, its exchange is over.
pub(crate) struct ResponseBody {
    kind: Kind,
    /// Accounts for the exchange when dropped.
    record: Option<Record>,
}

enum Kind {
    /// Our own answer.
    Own(Option<Bytes>),
    /// An upstream's; the lease returns its connection to the pool once all is read.
    Upstream { incoming: Incoming, lease: Option<Lease> },
}

impl ResponseBody {
    pub(crate) fn own(bytes: Bytes) -> ResponseBody {
        ResponseBody { kind: Kind::Own(Some(bytes).filter(|bytes| !bytes.is_empty())), record: None }
    }

    pub(crate) fn upstream(incoming: Incoming, lease: Lease) -> ResponseBody {
        ResponseBody { kind: Kind::Upstream { incoming, lease: Some(lease) }, record: None }
    }

    /// Lets the exchange last as long as the body.
    pub(crate) fn recorded(mut self, record: Record) -> ResponseBody {
        self.record = Some(record);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.kind {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Upstream { incoming, lease } => {
                let polled = Pin::new(incoming).poll_frame(context);
                if is_last(&polled)
                    && let Some(lease) = lease.take()
                {
                    lease.release();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// After trailers or the end nothing more comes. Only a chunked body needs to be asked; one with a
/// length knows its end beforehand and is not polled again.
fn is_last(polled: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) -> bool {
    match polled {
        Poll::Ready(None) => true,
        Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
        Poll::Ready(Some(Err(_))) | Poll::Pending => false,
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        if let Kind::Upstream { incoming, lease } = self
            && let Some(lease) = lease.take()
        {
            // Read to the end the connection is good for another request; otherwise dropping the lease
            // closes it, which tells the upstream that its client is gone.
            if incoming.is_end_stream() {
                lease.release();
            }
        }
    }
}
