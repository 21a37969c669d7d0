//! HTTP/1 towards clients: one request after the other.

mod downlink;
mod exchange;
mod head;
mod relay;

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::activity::Phase;
use crate::codec::Decoder;
use crate::connection::{Client, apart};
use crate::failure::Failure;
use head::Next;

/// A client's connection.
struct Connection<S> {
    client: Rc<Client>,
    stream: S,
    /// What was read and not used yet.
    input: BytesMut,
    /// What is left of the body of a request that could not be passed on.
    unread: Option<Decoder>,
    /// What was begun to be said of it.
    unsaid: BytesMut,
}

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The next request may come.
    Keep,
    /// It ends here, and the client is to see all of the answer.
    Close,
    /// The message could not be ended: that it broke off is all that can be said.
    Cut,
}

/// Serves requests one after the other until the connection ends.
pub(crate) async fn serve<S>(stream: S, client: Rc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection { client, stream, input: BytesMut::new(), unread: None, unsaid: BytesMut::new() };
    let fate = loop {
        let fate = match connection.next().await {
            // Most connections wait most of the time: what an exchange needs is not theirs then.
            Next::Head => apart(|| connection.exchange()).await,
            Next::Refused(failure) => apart(|| connection.refuse(failure)).await,
            Next::End => break Fate::Close,
        };
        if fate != Fate::Keep {
            break fate;
        }
    };
    if fate == Fate::Close {
        apart(|| connection.close()).await;
    }
}

/// The bytes that tell a client, before it has asked anything, why it is sent away.
pub(crate) fn turned_away(failure: Failure) -> BytesMut {
    exchange::unasked(failure)
}

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Ends the connection so that the client sees the answer: a socket closed with unread bytes is reset, and what was
    /// sent last is lost with it (RFC 9112 §9.6).
    async fn close(&mut self) {
        self.client.activity.enter(Phase::Untimed);
        let ending = async {
            self.stream.shutdown().await?;
            let mut unread = [0; 1024];
            while self.stream.read(&mut unread).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        // Either way the client has had its chance.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, ending).await;
    }
}

/// How long a client may take to close its side, and to stop sending.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
