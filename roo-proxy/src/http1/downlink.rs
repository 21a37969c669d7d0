//! A client of HTTP/1 during one exchange.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use http::Version;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use crate::buffer::{BUFFER_BYTES, consume};
use crate::codec::{Decoder, Encoder, Request, Response, Step};
use crate::failure::Failure;
use crate::forward::{Downstream, More, write_interim};

/// The client's side: the request's body comes from it, the response goes to it.
pub(super) struct Downlink<'a, S> {
    pub(super) connection: &'a mut Connection<S>,
    /// The request's body on the wire.
    pub(super) body: Decoder,
    /// The body's coding towards the upstream.
    encoder: Encoder,
    /// What is to be sent next.
    pub(super) output: BytesMut,
    takes_interim: bool,
}

impl<'a, S> Downlink<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(connection: &'a mut Connection<S>, request: &Request<'_>) -> Downlink<'a, S> {
        Downlink {
            connection,
            body: Decoder::new(request.framing),
            encoder: Encoder::new(request.framing),
            output: BytesMut::new(),
            takes_interim: request.version == Version::HTTP_11,
        }
    }

    /// The same client, once the response has begun: `body` is what is left of the request, `output` goes first.
    pub(super) fn resume(
        connection: &'a mut Connection<S>,
        request: &Request<'_>,
        body: Decoder,
        output: BytesMut,
    ) -> Downlink<'a, S> {
        Downlink { connection, body, encoder: Encoder::new(request.framing), output, takes_interim: false }
    }

    /// Sends all that is in `output`.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_write_all(&mut self.connection.stream, context, &mut self.output)
    }

    /// As [`Downlink::poll_send`], and sees to it that nothing lingers in between.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_send(&mut self.connection.stream, context, &mut self.output)
    }
}

/// Sends all of `output`, and sees to it that nothing lingers in between.
pub(super) fn poll_send<S>(stream: &mut S, context: &mut Context<'_>, output: &mut BytesMut) -> Poll<io::Result<()>>
where
    S: AsyncWrite + Unpin,
{
    ready!(poll_write_all(stream, context, output))?;
    Pin::new(stream).poll_flush(context)
}

fn poll_write_all<S>(stream: &mut S, context: &mut Context<'_>, output: &mut BytesMut) -> Poll<io::Result<()>>
where
    S: AsyncWrite + Unpin,
{
    while !output.is_empty() {
        let bytes = ready!(Pin::new(&mut *stream).poll_write(context, output))?;
        if bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        consume(output, bytes);
    }
    Poll::Ready(Ok(()))
}

impl<S> Downstream for Downlink<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_body(&mut self, context: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<More, Failure>> {
        loop {
            let input = &mut self.connection.input;
            match self.body.step(input)? {
                Step::Content(bytes) => {
                    let bytes = bytes.min(BUFFER_BYTES);
                    self.encoder.content(out, &input[..bytes]);
                    input.advance(bytes);
                    self.body.took(bytes);
                    // A length is complete with its last byte, without anything behind it.
                    return Poll::Ready(Ok(if self.body.is_end() { More::No } else { More::Yes }));
                }
                Step::End => {
                    let trailers = self.body.take_trailers();
                    self.encoder.end(out, trailers.as_ref());
                    return Poll::Ready(Ok(More::No));
                }
                Step::More => match ready!(self.connection.poll_read(context)) {
                    Ok(0) | Err(_) => {
                        return Poll::Ready(Err(Failure::BadRequest { why: "the request body broke off" }));
                    }
                    Ok(_) => {}
                },
            }
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_flush(context) {
            return Poll::Ready(());
        }
        // What comes early is kept for later, within bounds.
        while self.connection.input.len() < BUFFER_BYTES / 2 {
            match ready!(self.connection.poll_read(context)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    fn interim(&mut self, response: &Response<'_>) {
        if self.takes_interim {
            write_interim(&mut self.output, response, None);
        }
    }
}
