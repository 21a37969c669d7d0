//! One connection to an upstream: its stream, and what was read of it and not used yet.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

use super::http2;
use super::instance::InFlight;
use super::pool::Key;
use crate::activity::Activity;
use crate::buffer::{Buffers, poll_more};
use crate::stream::Stream;

/// A connection in use. Dropping it closes it; [`Pool::put`](super::pool::Pool::put) keeps it.
pub(crate) struct Connection {
    pub(crate) stream: UpstreamStream,
    /// What was read and not used yet.
    pub(crate) input: BytesMut,
    pub(crate) activity: Rc<Activity>,
    pub(crate) key: Key,
    /// The instance that a request is under way to.
    pub(crate) in_flight: Option<InFlight>,
}

/// Plain or TLS over TCP, a socket of this machine, or one exchange on a connection that carries several.
pub(crate) enum UpstreamStream {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
    Unix(Stream<UnixStream>),
    Http2(Box<http2::Exchange>),
}

impl Connection {
    /// Reads into `input`, with room for at least `room` more bytes.
    pub(crate) fn poll_read(
        &mut self,
        buffers: &Buffers,
        context: &mut Context<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            return match room {
                0..=crate::buffer::BUFFER_BYTES => buffers.poll_read(context, &mut self.stream, &mut self.input),
                _ => poll_more(context, &mut self.stream, &mut self.input, room),
            };
        }
        poll_more(context, &mut self.stream, &mut self.input, room)
    }

    /// The exchange of HTTP/2 that it is, if it is one.
    pub(crate) fn http2(&mut self) -> Option<&mut http2::Exchange> {
        match &mut self.stream {
            UpstreamStream::Http2(exchange) => Some(exchange),
            UpstreamStream::Plain(_) | UpstreamStream::Tls(_) | UpstreamStream::Unix(_) => None,
        }
    }

    /// Whether it can carry another request: open, and the upstream has said nothing unasked.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match &self.stream {
            UpstreamStream::Plain(stream) => stream.is_quiet() && self.input.is_empty(),
            _ => self.rests(),
        }
    }

    /// As [`Connection::is_quiet`]. The task that used it last is forgotten.
    pub(crate) fn rests(&mut self) -> bool {
        self.activity.forget_task();
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        self.input.is_empty() && Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer).is_pending()
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            UpstreamStream::Http2(exchange) => Pin::new(exchange).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            UpstreamStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            UpstreamStream::Http2(exchange) => Pin::new(exchange).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_flush(context),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_flush(context),
            UpstreamStream::Http2(exchange) => Pin::new(exchange).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            UpstreamStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            UpstreamStream::Http2(exchange) => Pin::new(exchange).poll_shutdown(context),
        }
    }
}
