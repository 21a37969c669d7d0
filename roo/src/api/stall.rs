//! Clients that take nothing of what they are sent.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The largest piece of an answer that waits for the client: as much as fits into a frame (RFC 9113, section 4.2).
const PIECE_BYTES: usize = 16 << 10;

/// How often it is looked for answers that wait, in the time that they may.
const LOOKS: u32 = 6;

/// A stream on which writing fails once it has not gone on for a time, so that whoever writes gives it up, and what
/// waits to be written goes with it.
pub(super) struct Unstalled<S> {
    stream: S,
    patience: Duration,
    /// Set while something waits to be written.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, end: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.end = None;
            return written;
        }
        let patience = self.patience;
        let end = self.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buf);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, ended)
    }
}

/// The answers on one connection of HTTP/2. There a client may take nothing of an answer (RFC 9113, section 5.2) while
/// the connection itself goes on, so its bytes tell nothing.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<Weak<Waiting>>>>);

/// Since when a piece of an answer waits for the client; none while the client waits for the answer.
type Waiting = Mutex<Option<Instant>>;

impl Answers {
    /// Has the body watched.
    pub(super) fn watch(&self, body: Body) -> Body {
        let waiting = Arc::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|answer| answer.strong_count() > 0);
        all.push(Arc::downgrade(&waiting));
        Body::new(Watched { body, rest: Bytes::new(), waiting })
    }

    /// Returns when a piece of one has waited for so long.
    pub(super) async fn stalled(&self, patience: Duration) {
        while !self.has_waited(patience) {
            tokio::time::sleep(patience / LOOKS).await;
        }
    }

    fn has_waited(&self, patience: Duration) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).any(|answer| {
            let since = *answer.lock().unwrap_or_else(PoisonError::into_inner);
            since.is_some_and(|since| since.elapsed() >= patience)
        })
    }
}

/// A body of which the next piece is asked for when the client has room for the one before.
struct Watched {
    body: Body,
    /// What is left of a frame that was too large to be handed over at once.
    rest: Bytes,
    waiting: Arc<Waiting>,
}

impl Watched {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(hyper::body::Body::poll_frame(Pin::new(&mut self.body), context))
                .map(|frame| frame.map(Frame::into_data))
            {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = self.next(context);
        let waits = matches!(next, Poll::Ready(Some(Ok(_)))).then(Instant::now);
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waits;
        next
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // It is asked for before the first frame is.
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn writing_fails_when_nobody_reads_and_not_while_somebody_does_slowly() {
        let (stream, mut client) = tokio::io::duplex(16);
        let mut stream = Unstalled::new(stream, PATIENCE);
        let reading = async {
            let mut byte = [0; 8];
            for _ in 0..10 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                client.read_exact(&mut byte).await.expect("the connection is open");
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[1; 80]), reading);
        written.expect("it was read");
        let written = stream.write_all(&[1; 100]).await;
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }
}
