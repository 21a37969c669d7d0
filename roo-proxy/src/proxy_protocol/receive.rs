//! Taking a header off the front of a connection, and not a byte of what follows it.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{Ends, parse, v2};

/// Reads the header that is due. `None`: the connection stands for itself.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] with a [`BadHeader`](super::BadHeader) if something else came; else what the socket says.
pub(crate) async fn receive(socket: &mut TcpStream) -> io::Result<Option<Ends>> {
    let mut bytes = vec![0; v2::BYTES_MAX];
    let mut had = 0;
    loop {
        // Looked at and left where it is: what follows the header is not ours.
        let seen = socket.peek(&mut bytes[had..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = parse(&bytes[..had + seen]).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        let end = parsed.map_or(had + seen, |header| header.length);
        socket.read_exact(&mut bytes[had..end]).await?;
        match parsed {
            Some(header) => return Ok(header.ends),
            // All that was seen belongs to the header.
            None => had = end,
        }
    }
}
