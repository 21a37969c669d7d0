//! Both bodies of an exchange, once the response has begun.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::downlink::Downlink;
use crate::access::End;
use crate::buffer::{BUFFER_BYTES, Buffers, consume, room};
use crate::codec::{Decoder, Encoder, Framing, Step};
use crate::forward::{Answered, Downstream, Upload, UploadFault};
use crate::upstream::connection::Connection;
use crate::worker::Worker;

/// What is still to be passed on, in both directions.
pub(super) struct Relay {
    pub(super) connection: Box<Connection>,
    upload: Upload,
    /// The response's body on the wire.
    pub(super) body: Decoder,
    /// Its coding towards the client.
    encoder: Encoder,
    /// What delimits it there.
    towards: Framing,
    /// Whether the upstream would take another request.
    reusable: bool,
    ended: bool,
    /// When the response's head was there.
    pub(super) began: Instant,
}

/// Who kept the response from being passed on whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    Client,
    Upstream,
    /// Nothing moved any more.
    Stuck,
}

impl From<Broken> for End {
    fn from(broken: Broken) -> End {
        match broken {
            Broken::Client => End::Left,
            Broken::Upstream => End::Broken,
            Broken::Stuck => End::Stuck,
        }
    }
}

impl Relay {
    pub(super) fn new(answered: Answered, framing: Framing, towards: Framing, reusable: bool) -> Relay {
        let Answered { connection, upload, answered: began, .. } = answered;
        let (body, encoder) = (Decoder::new(framing), Encoder::new(towards));
        Relay { connection, upload, body, encoder, towards, reusable, ended: false, began }
    }

    /// Whether only the end of the connection tells the client that the response is whole.
    pub(super) fn ends_by_close(&self) -> bool {
        self.towards == Framing::UntilClose
    }

    /// Moves bytes until the response is sent whole.
    pub(super) fn poll<S>(
        &mut self,
        context: &mut Context<'_>,
        buffers: &Buffers,
        client: &mut Downlink<'_, S>,
    ) -> Poll<Result<(), Broken>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.upload.poll(context, client, &mut self.connection.stream) {
            Poll::Ready(Err(UploadFault::Client(_))) => return Poll::Ready(Err(Broken::Client)),
            // It has answered without the rest.
            Poll::Ready(Err(UploadFault::Upstream)) => self.upload.refuse(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            if self.ended {
                return client.poll_flush(context).map_err(|_| Broken::Client);
            }
            match self.body.step(&mut self.connection.input).map_err(|_| Broken::Upstream)? {
                Step::Content(bytes) => ready!(self.pass(context, client, bytes))?,
                Step::End => self.end(client),
                Step::More => {
                    let room = room(self.body.expects());
                    match self.connection.poll_read(buffers, context, room) {
                        // Only an orderly end ends a body that has no length.
                        Poll::Ready(Ok(0)) if self.body.closed() => self.end(client),
                        Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(self.broken(context, client))),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Pending => {
                            ready!(client.poll_flush(context)).map_err(|_| Broken::Client)?;
                            // Nobody may say anything for long. While its body is to come, that tells of the client.
                            if self.upload.is_over() {
                                return client.poll_gone(context).map(|()| Err(Broken::Client));
                            }
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }

    /// Passes on content, the first of it in one piece with the head. Ready once there is room for more.
    fn pass<S>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Downlink<'_, S>,
        bytes: usize,
    ) -> Poll<Result<(), Broken>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if client.output.len() >= BUFFER_BYTES {
            ready!(client.poll_send(context)).map_err(|_| Broken::Client)?;
        }
        let input = &mut self.connection.input;
        let taken = if self.encoder == Encoder::Plain && client.output.is_empty() {
            let stream = Pin::new(&mut client.connection.stream);
            match ready!(stream.poll_write(context, &input[..bytes])) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Client)),
                Ok(taken) => taken,
            }
        } else {
            let taken = bytes.min(BUFFER_BYTES);
            self.encoder.content(&mut client.output, &input[..taken]);
            taken
        };
        consume(input, taken);
        self.body.took(taken);
        if !client.output.is_empty() && !self.body.is_end() {
            // More is at hand, or is waited for: in both cases this may go.
            if client.output.len() >= BUFFER_BYTES || self.connection.input.is_empty() {
                ready!(client.poll_send(context)).map_err(|_| Broken::Client)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end<S>(&mut self, client: &mut Downlink<'_, S>) {
        let trailers = self.body.take_trailers();
        self.encoder.end(&mut client.output, trailers.as_ref());
        self.ended = true;
    }

    /// The upstream broke off. What came before is the client's all the same.
    fn broken<S>(&mut self, context: &mut Context<'_>, client: &mut Downlink<'_, S>) -> Broken
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Whatever comes of it: there is nothing behind it.
        let _ = client.poll_flush(context);
        Broken::Upstream
    }

    /// Gives back what others can use.
    pub(super) fn release(mut self, worker: &Worker) {
        worker.buffers.give(self.upload.take_buffer());
        let is_complete = self.ended && self.upload.is_complete();
        release(self.connection, is_complete && self.reusable, worker);
    }
}

/// Gives back what others can use of a connection, and all of it if its exchange is complete in both directions.
pub(super) fn release(mut connection: Box<Connection>, is_complete: bool, worker: &Worker) {
    if connection.input.is_empty() {
        worker.buffers.give(std::mem::take(&mut connection.input));
        if is_complete {
            worker.pool.put(connection);
        }
    }
}
