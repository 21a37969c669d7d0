//! A request on its way up: its head, then its body as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use crate::buffer::{BUFFER_BYTES, consume};
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

/// The body of a request, before any of it was sent.
#[derive(Default)]
pub(crate) struct Body {
    /// What the client has sent of it, as an upstream is to have it.
    taken: BytesMut,
    /// Whether there is more to come.
    more: bool,
}

impl Body {
    /// Of which nothing was taken from the client.
    pub(crate) fn untouched(more: bool) -> Body {
        Body { taken: BytesMut::new(), more }
    }
}

/// What is still to be sent.
pub(crate) struct Upload {
    out: BytesMut,
    /// The length of the head, with which `out` begins until something was written.
    head: usize,
    /// Whether the body goes on behind `out`.
    more: bool,
    /// The upstream does not want the rest.
    refused: bool,
    /// Whether anything may have been written.
    pub(crate) written: bool,
    /// Whether the client has sent any of its body.
    pub(crate) begun: bool,
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
    /// Of a head and a body.
    pub(crate) fn new(head: BytesMut, body: Body) -> Upload {
        let (length, mut out, begun) = (head.len(), head, !body.taken.is_empty());
        out.extend_from_slice(&body.taken);
        Upload {
            out,
            head: length,
            more: body.more,
            refused: false,
            written: false,
            begun,
            starved: false,
            done: false,
        }
    }

    /// What was taken of the body, for another try. Only of an upload of which nothing was written.
    pub(crate) fn into_body(mut self) -> Body {
        Body { taken: self.out.split_off(self.head.min(self.out.len())), more: self.more }
    }

    /// What was taken of the body, `sent` and not, for another try.
    pub(crate) fn take_body_behind(&mut self, sent: BytesMut) -> Body {
        let mut taken = sent;
        taken.extend_from_slice(&self.out);
        Body { taken, more: self.more }
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
                    Ok(0) | Err(_) => {
                        // Below TLS, some of what it failed to write may have gone.
                        self.written |= matches!(upstream, UpstreamStream::Tls(_));
                        return Poll::Ready(Err(UploadFault::Upstream));
                    }
                    Ok(bytes) => consume(&mut self.out, bytes),
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
                    self.begun = true;
                }
                Poll::Ready(Err(failure)) => return Err(UploadFault::Client(failure)),
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::activity::Sweep;
    use crate::stream::Stream;

    /// A client that has sent a body in pieces.
    struct Pieces(Vec<&'static [u8]>);

    impl Downstream for Pieces {
        fn poll_body(&mut self, _: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<More, Failure>> {
            out.extend_from_slice(self.0.remove(0));
            Poll::Ready(Ok(if self.0.is_empty() { More::No } else { More::Yes }))
        }

        fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn interim(&mut self, _: &Response<'_>) {}
    }

    /// Both ends of a connection.
    async fn connected() -> (UpstreamStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // From here on the event loop takes it to be writable, whatever happens.
        near.writable().await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (UpstreamStream::Plain(Stream::new(near, Sweep::new().activity())), far)
    }

    #[tokio::test]
    async fn a_body_whose_first_write_failed_is_sent_whole_to_the_next() {
        let mut client = Pieces(vec![b"hello ", b"world"]);
        let (mut stale, far) = connected().await;
        socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        let mut upload = Upload::new(BytesMut::from("first head\n"), Body::untouched(true));
        let failed = poll_fn(|context| upload.poll(context, &mut client, &mut stale)).await;
        assert!(matches!(failed, Err(UploadFault::Upstream)));
        assert!(!upload.written && client.0.is_empty(), "the body was taken, and nothing was sent");

        let (mut fresh, mut far) = connected().await;
        let mut upload = Upload::new(BytesMut::from("another head\n"), upload.into_body());
        assert!(poll_fn(|context| upload.poll(context, &mut client, &mut fresh)).await.is_ok());
        drop(fresh);
        let mut sent = String::new();
        far.read_to_string(&mut sent).await.unwrap();
        assert_eq!(sent, "another head\nhello world");
    }
}
