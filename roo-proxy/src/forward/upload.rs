//! A request on its way up: its head, then its body as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use crate::buffer::BUFFER_BYTES;
use crate::codec::Response;
use crate::failure::Failure;
use crate::upstream::connection::UpstreamStream;

/// The client's side of an exchange, whichever protocol it speaks.
pub(crate) trait Downstream {
    /// Appends to `out` what has come of the request's body, as the upstream is to have it.
    ///
    /// # Errors
    ///
    /// What is wrong with the body.
    fn poll_body(&mut self, context: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<More, Failure>>;

    /// Keeps the client company while an upstream is waited for; ready if it has hung up.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Passes on a head that is followed by another one, if the client can take it.
    fn interim(&mut self, response: &Response<'_>);
}

/// Whether a body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Yes,
    No,
}

/// What is still to be sent.
pub(crate) struct Upload {
    out: BytesMut,
    /// Whether the body goes on behind `out`.
    more: bool,
    /// The upstream does not want the rest.
    refused: bool,
    /// Whether anything was written; whether any of the body was taken from the client.
    pub(crate) written: bool,
    pub(crate) taken: bool,
    /// Whether the upstream could take more than the client has sent.
    pub(crate) starved: bool,
    done: bool,
}

/// Why a request could not be sent whole.
#[derive(Debug)]
pub(crate) enum UploadFault {
    Client(Failure),
    Upstream,
}

impl Upload {
    /// Of a head and, if `more`, a body.
    pub(crate) fn new(head: BytesMut, more: bool) -> Upload {
        Upload { out: head, more, refused: false, written: false, taken: false, starved: false, done: false }
    }

    /// Whether everything was sent.
    pub(crate) fn is_complete(&self) -> bool {
        self.done && !self.refused
    }

    /// Whether there is nothing more to do.
    pub(crate) fn is_over(&self) -> bool {
        self.done || self.refused
    }

    /// Sends no more: the upstream has closed its ear. What it says may still be heard.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// The buffer, for its owner.
    pub(crate) fn take_buffer(&mut self) -> BytesMut {
        std::mem::take(&mut self.out)
    }

    /// Sends what there is. Ready once all is sent.
    pub(crate) fn poll<D: Downstream>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut D,
        upstream: &mut UpstreamStream,
    ) -> Poll<Result<(), UploadFault>> {
        while !self.is_over() {
            let waits = self.fill(context, client)?;
            if !self.out.is_empty() {
                match ready!(Pin::new(&mut *upstream).poll_write(context, &self.out)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(UploadFault::Upstream)),
                    Ok(bytes) => self.out.advance(bytes),
                }
                self.written = true;
                continue;
            }
            ready!(Pin::new(&mut *upstream).poll_flush(context)).map_err(|_: io::Error| UploadFault::Upstream)?;
            self.starved = waits;
            if waits {
                return Poll::Pending;
            }
            self.done = !self.more;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what the client has sent, up to a bound; whether more is to be waited for.
    fn fill<D: Downstream>(&mut self, context: &mut Context<'_>, client: &mut D) -> Result<bool, UploadFault> {
        while self.more && self.out.len() < BUFFER_BYTES {
            match client.poll_body(context, &mut self.out) {
                Poll::Ready(Ok(more)) => {
                    self.more = more == More::Yes;
                    self.taken = true;
                }
                Poll::Ready(Err(failure)) => return Err(UploadFault::Client(failure)),
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }
}
