//! A socket that tells its connection's activity of every byte moved.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::activity::Activity;

/// A socket, client's or upstream's, below TLS if there is any.
pub(crate) struct Stream<S: AsFd = TcpStream> {
    socket: S,
    activity: Rc<Activity>,
    /// What was written and waits for more to go with it.
    held: BytesMut,
    holds: bool,
}

impl<S: AsFd> Stream<S> {
    pub(crate) fn new(socket: S, activity: Rc<Activity>) -> Stream<S> {
        Stream { socket, activity, held: BytesMut::new(), holds: false }
    }

    /// Holds what is written back from now on, flushed or not, until there is nothing to read: of a handshake's last
    /// flight and the answer to the request that came with it one packet is made instead of two.
    pub(crate) fn hold(&mut self) {
        self.holds = true;
    }

    /// Lets what is held go with the next that is written or flushed, or if there is nothing to read.
    pub(crate) fn release(&mut self) {
        self.holds = false;
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes @ 1..)) = result {
            self.activity.wrote(bytes);
        }
        result
    }
}

impl Stream {
    /// Whether it is open and nothing has come. Asks the system only if there may be something.
    pub(crate) fn is_quiet(&self) -> bool {
        self.socket.try_read(&mut [0]).is_err_and(|fault| fault.kind() == io::ErrorKind::WouldBlock)
    }
}

impl<S: AsFd> Drop for Stream<S> {
    fn drop(&mut self) {
        if self.activity.resets.get() {
            // A socket that cannot is on its way out.
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}

impl<S: AsyncWrite + AsFd + Unpin> Stream<S> {
    /// Sends what is held.
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let result = Pin::new(&mut self.socket).poll_write(context, &self.held);
            match ready!(self.wrote(result))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.held.advance(bytes),
            }
        }
        // Most connections wait most of the time: they keep nothing for it.
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Sends what is held and some of `bytes` behind it, together.
    fn poll_write_behind(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let slices = [io::IoSlice::new(&self.held), io::IoSlice::new(bytes)];
        let result = Pin::new(&mut self.socket).poll_write_vectored(context, &slices);
        let sent = ready!(self.wrote(result))?;
        let behind = sent.saturating_sub(self.held.len());
        self.held.advance(sent - behind);
        ready!(self.poll_held(context))?;
        if behind > 0 {
            return Poll::Ready(Ok(behind));
        }
        let result = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(result)
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(context, buffer) else {
            if !self.held.is_empty()
                && let Poll::Ready(Err(fault)) = self.poll_held(context)
            {
                return Poll::Ready(Err(fault));
            }
            return Poll::Pending;
        };
        read?;
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.activity.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.holds {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if !self.held.is_empty() {
            return self.poll_write_behind(context, bytes);
        }
        let result = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.holds || !self.held.is_empty() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        let result = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds {
            return Poll::Ready(Ok(()));
        }
        if !self.held.is_empty() {
            ready!(self.poll_held(context))?;
        }
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            ready!(self.poll_held(context))?;
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::mem::MaybeUninit;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::activity::Sweep;

    fn pair() -> (Stream<UnixStream>, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Stream::new(near, Sweep::new().activity()), far)
    }

    /// What has come, at most so many bytes at once.
    async fn came(far: &mut UnixStream) -> String {
        let mut bytes = [0; 64];
        let count = far.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// Whether the system has nothing to be read, whatever the runtime believes.
    fn has_nothing(far: &UnixStream) -> bool {
        let peeked = SockRef::from(far).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|fault| fault.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn what_is_held_goes_with_the_next_in_one_piece() {
        let (mut near, mut far) = pair();
        near.hold();
        near.write_all(b"ticket ").await.unwrap();
        near.flush().await.unwrap();
        assert!(has_nothing(&far));
        near.release();
        assert!(has_nothing(&far));
        near.write_all(b"answer").await.unwrap();
        assert_eq!(came(&mut far).await, "ticket answer");
        near.write_all(b" more").await.unwrap();
        assert_eq!(came(&mut far).await, " more");
    }

    #[tokio::test]
    async fn who_waits_holds_nothing() {
        let (mut near, mut far) = pair();
        near.hold();
        near.write_all(b"flight").await.unwrap();
        tokio::select! {
            _ = near.read_u8() => unreachable!("nothing has come"),
            came = came(&mut far) => assert_eq!(came, "flight"),
        }
    }

    #[tokio::test]
    async fn the_end_and_a_flush_let_it_go() {
        let (mut near, mut far) = pair();
        near.hold();
        near.write_all(b"alert").await.unwrap();
        near.release();
        near.flush().await.unwrap();
        assert_eq!(came(&mut far).await, "alert");
        near.hold();
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(came(&mut far).await, "last");
    }
}
