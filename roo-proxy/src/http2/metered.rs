//! The client's connection below HTTP/2, which is left when a client floods it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::Budget;
use super::frames::{Frame, Frames};
use crate::connection::Client;

/// A stream whose frames are counted on their way. Reading from it fails once its budget is spent.
pub(super) struct Metered<S> {
    stream: S,
    client: Rc<Client>,
    received: Frames,
    sent: Frames,
    budget: Budget,
}

/// What a client sends before its first frame (RFC 9113 §3.4).
const PREFACE_BYTES: u32 = 24;

/// A whole GOAWAY (RFC 9113 §6.8): any stream may have been seen to, and ENHANCE_YOUR_CALM.
const CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

impl<S: AsyncRead + AsyncWrite + Unpin> Metered<S> {
    pub(super) fn new(stream: S, client: Rc<Client>) -> Metered<S> {
        let (received, sent) = (Frames::after(PREFACE_BYTES), Frames::after(0));
        let budget = Budget::new(client.worker.shared.config.limits.header_bytes);
        Metered { stream, client, received, sent, budget }
    }

    fn wrote(&mut self, mut bytes: usize, slices: &[io::IoSlice<'_>]) {
        for slice in slices {
            let part = bytes.min(slice.len());
            self.sent.pass(&slice[..part], |frame| {
                self.budget.sent(frame, self.client.asked.get());
                tell(&self.client, frame);
            });
            bytes -= part;
        }
    }

    /// Tells the client why, where that makes a frame of its own, and gives up.
    fn flooded(&mut self, context: &mut Context<'_>) -> io::Error {
        tracing::debug!(peer = %self.client.peer.address, "a client of HTTP/2 sent too many frames that lead to nothing");
        self.client.worker.measures.flood();
        if self.sent.is_between() {
            // What becomes of it is the client's affair.
            let _ = Pin::new(&mut self.stream).poll_write(context, &CALM).is_ready();
            let _ = Pin::new(&mut self.stream).poll_flush(context).is_ready();
        }
        io::Error::other("too many frames that lead to nothing")
    }
}

/// Small messages keep their connection as large ones do, whose bytes tell.
fn tell(client: &Client, frame: Frame) {
    if frame.has_fields() || frame.kind == Frame::DATA && frame.length > 0 {
        client.activity.moved();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.received.pass(&buffer.filled()[before..], |frame| {
            this.budget.received(frame);
            tell(&this.client, frame);
        });
        if this.budget.is_spent() {
            return Poll::Ready(Err(this.flooded(context)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.wrote(written, &[io::IoSlice::new(bytes)]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.wrote(written, slices);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
