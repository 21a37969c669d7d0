//! Lines over a socket, with descriptors beside them.
//!
//! Both sides speak in turn, so that there is never more than one line on its way to either.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Descriptors beside one line. The system takes at most 253 (unix(7)).
pub(super) const DESCRIPTORS_MAX: usize = 64;
const SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));
const LINE_BYTES_MAX: usize = 4096;

/// Sends a line and descriptors.
pub(super) fn send(mut stream: &UnixStream, line: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = format!("{line}\n").into_bytes();
    let mut space = [const { MaybeUninit::uninit() }; SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many sockets for one message"));
    }
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(&bytes[sent..])
}

/// Receives a line and the descriptors beside it.
pub(super) fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while !line.ends_with(b"\n") {
        let mut bytes = [0; LINE_BYTES_MAX];
        let mut space = [const { MaybeUninit::uninit() }; SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended"));
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        line.extend_from_slice(&bytes[..received.bytes]);
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it says more than a line"));
        }
    }
    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
    Ok((text, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sockets_arrive_with_their_line() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a listener"));
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        send(&here, "sockets a,b,c", &borrowed).expect("sent");
        let (line, descriptors) = receive(&there).expect("received");
        assert_eq!(line, "sockets a,b,c");
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        let arrived: Vec<_> = descriptors.into_iter().map(|fd| address(&TcpListener::from(fd))).collect();
        assert_eq!(arrived, sockets.each_ref().map(address));
        send(&there, "next", &[]).expect("sent");
        assert_eq!(receive(&here).expect("received").0, "next");
        drop(there);
        assert_eq!(receive(&here).expect_err("the end").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn more_than_a_line_is_refused() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let sending = std::thread::spawn(move || (&here).write_all(&[b'x'; 2 * LINE_BYTES_MAX]));
        assert_eq!(receive(&there).expect_err("too long").kind(), io::ErrorKind::InvalidData);
        drop(there);
        let _ = sending.join();
    }
}
