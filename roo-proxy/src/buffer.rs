//! Buffers of one worker, lent to connections while bytes move and given back while they wait.

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::{io, pin::Pin};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Empty buffers for whoever reads next. Never leaves its worker's thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers(RefCell<Vec<BytesMut>>);

/// Bytes of one buffer: a head and a small body, or a full record of TLS.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// Bytes to read at once while a large body moves.
const LARGE_READ_BYTES: usize = 64 * 1024;

/// Buffers kept; further ones are freed.
const KEPT_MAX: usize = 64;

impl Buffers {
    /// An empty buffer with room.
    pub(crate) fn take(&self) -> BytesMut {
        self.0.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back; what is in it is forgotten.
    pub(crate) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        // What was cut off at its front comes back by this, unless somebody else still holds a part of it.
        if (buffer.capacity() < BUFFER_BYTES && !buffer.try_reclaim(BUFFER_BYTES))
            || buffer.capacity() > 2 * BUFFER_BYTES
        {
            return;
        }
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }

    /// Reads into a connection's buffer, which it gets from here and gives back here if nothing has come.
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &self,
        context: &mut Context<'_>,
        stream: &mut S,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if buffer.capacity() == 0 {
            // Most looks find nothing: then the buffer lent is as it was.
            let mut lent = self.take();
            let read = poll_read_buf(Pin::new(stream), context, &mut lent);
            if lent.is_empty() {
                self.0.borrow_mut().push(lent);
            } else {
                *buffer = lent;
            }
            return read;
        }
        if buffer.is_empty() && buffer.capacity() < BUFFER_BYTES && !buffer.try_reclaim(BUFFER_BYTES) {
            *buffer = self.take();
        }
        let read = poll_more(context, stream, buffer, BUFFER_BYTES / 4);
        if buffer.is_empty() {
            self.give(std::mem::take(buffer));
        }
        read
    }
}

/// Takes so many bytes away from the front. A buffer that is empty then is whole again.
pub(crate) fn consume(buffer: &mut BytesMut, bytes: usize) {
    if bytes == buffer.len() {
        buffer.clear();
    } else {
        buffer.advance(bytes);
    }
}

/// Reads behind what is in the buffer already, which grows by at least `room` if it is full.
pub(crate) fn poll_more<S: AsyncRead + Unpin>(
    context: &mut Context<'_>,
    stream: &mut S,
    buffer: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() - buffer.len() < room {
        buffer.reserve(room);
    }
    poll_read_buf(Pin::new(stream), context, buffer)
}

/// Room to read into where so many bytes are expected, within bounds.
pub(crate) fn room(expected: u64) -> usize {
    usize::try_from(expected).unwrap_or(usize::MAX).clamp(BUFFER_BYTES / 4, LARGE_READ_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_whole() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[1; 100]);
        let _ = buffer.split_to(50);
        buffers.give(buffer);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= BUFFER_BYTES);
        assert!(buffers.0.borrow().is_empty());
    }

    #[test]
    fn what_somebody_still_holds_is_not_lent_again() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[1; 100]);
        let held = buffer.split_to(50).freeze();
        buffers.give(buffer);
        assert!(buffers.0.borrow().is_empty());
        assert_eq!(held.len(), 50);
    }
}
