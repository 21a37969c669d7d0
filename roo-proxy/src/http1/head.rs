//! Waiting for the next request.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use crate::activity::Phase;
use crate::buffer::{BUFFER_BYTES, poll_more};
use crate::codec::HeadEnd;
use crate::failure::Failure;

/// What comes next on a connection.
pub(super) enum Next {
    /// The input begins with a whole head, or with what is none.
    Head,
    /// Something that is no request.
    Refused(Failure),
    /// Nothing more.
    End,
}

/// A new connection gets a moment in a drain to bring the request it was made for: its client could not know.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Waits for a whole head, the end of the connection, or the end of its time.
    pub(super) async fn next(&mut self) -> Next {
        let mut end = HeadEnd::default();
        let mut skipped = false;
        if !self.input.is_empty() && self.client.activity.phase() == Phase::Idle {
            // What came behind the last request has begun this one.
            self.client.activity.enter(Phase::Head);
        }
        let next = poll_fn(|context| match self.poll_next(context, &mut end, &mut skipped) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending if !self.input.is_empty() => Poll::Pending,
            Poll::Pending => self.client.activity.poll_drain(context).map(|()| None),
        });
        if let Some(next) = next.await {
            return next;
        }
        if self.client.asked.get() > 0 {
            return Next::End;
        }
        let first = poll_fn(|context| self.poll_next(context, &mut end, &mut skipped));
        tokio::time::timeout(FIRST_REQUEST_WITHIN, first).await.unwrap_or(Next::End)
    }

    fn poll_next(&mut self, context: &mut Context<'_>, end: &mut HeadEnd, skipped: &mut bool) -> Poll<Next> {
        // From the first look on, since a request may be there at once.
        self.client.activity.wake_later(context);
        // Memory is bounded by this; the limit itself is kept in the walk, where the answer can say more.
        let bytes_max = self.client.worker.shared.config.limits.header_bytes.max(1).saturating_mul(2);
        loop {
            // RFC 9112 §2.2: one empty line before a request is to be borne.
            if !*skipped && self.input.starts_with(b"\r\n") {
                self.input.advance(2);
                *skipped = true;
            }
            // Most heads come whole and alone: where one ends is seen when it is parsed.
            if self.input.ends_with(b"\r\n\r\n") {
                return Poll::Ready(Next::Head);
            }
            if self.input[..] != b"\r"[..] {
                match end.find(&self.input) {
                    Ok(Some(_)) => return Poll::Ready(Next::Head),
                    Ok(None) if self.input.len() > bytes_max => {
                        return Poll::Ready(Next::Refused(Failure::HeaderTooLarge));
                    }
                    Ok(None) => {}
                    Err(malformed) => return Poll::Ready(Next::Refused(malformed.into())),
                }
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        self.client.activity.poll_expired(context).map(|()| self.late())
    }

    /// The time is over: of a wait, of which nobody needs to hear, or of a head that does not end.
    fn late(&self) -> Next {
        if self.client.activity.phase() == Phase::Head && !self.input.is_empty() {
            Next::Refused(Failure::RequestTimeout)
        } else {
            Next::End
        }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.input.is_empty() {
            return self.client.worker.buffers.poll_read(context, &mut self.stream, &mut self.input);
        }
        poll_more(context, &mut self.stream, &mut self.input, BUFFER_BYTES / 4)
    }
}
