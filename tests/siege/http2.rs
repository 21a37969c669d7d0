//! A client of HTTP/2 that sends any bytes as fast as they are taken.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::HOST;
use crate::frame::{self, GOAWAY};
use crate::front::Front;

pub struct Flood {
    from: ReadHalf<TlsStream<TcpStream>>,
    to: WriteHalf<TlsStream<TcpStream>>,
}

/// How a flood ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The connection was closed.
    pub closed: bool,
    /// The code of the last GOAWAY with one.
    pub told: Option<u32>,
}

impl Flood {
    /// Connects and says what every client says first.
    pub async fn connect(front: &Front) -> Result<Flood> {
        let stream = front.https.connect(front.node.https, HOST, &["h2"]).await?;
        let (from, mut to) = tokio::io::split(stream);
        to.write_all(&frame::preface()).await?;
        to.flush().await?;
        Ok(Flood { from, to })
    }

    /// Sends what `more` makes, round by round, until the connection is closed or `patience` ends. What comes back is read
    /// all the while, unless the client is `deaf`.
    pub async fn run(self, mut more: impl FnMut(u32) -> Vec<u8>, deaf: bool, patience: Duration) -> Ended {
        let Flood { mut from, mut to } = self;
        let mut ended = Ended { closed: false, told: None };
        let mut heard = Vec::new();
        let sending = async {
            for round in 0.. {
                let bytes = more(round);
                if bytes.is_empty() {
                    break;
                }
                if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                    if deaf {
                        return;
                    }
                    // Read to the end: what was told last is worth knowing.
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let reading = async {
            if deaf {
                std::future::pending::<()>().await;
            }
            // An end of any kind.
            while let Ok(1..) = from.read_buf(&mut heard).await {
                if heard.len() > 1 << 20 {
                    // Only what is said last matters.
                    heard.clear();
                }
            }
        };
        tokio::select! {
            () = sending => ended.closed = true,
            () = reading => ended.closed = true,
            () = tokio::time::sleep(patience) => {}
        }
        ended.told = goaway(&heard);
        ended
    }
}

/// The code of the last frame of the kind GOAWAY that is not zero.
fn goaway(mut bytes: &[u8]) -> Option<u32> {
    let mut told = None;
    while let [a, b, c, kind, ..] = *bytes {
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        let Some(payload) = bytes.get(9..9 + length) else { break };
        if kind == GOAWAY
            && let Some(code) = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes)
            && code != 0
        {
            told = Some(code);
        }
        bytes = &bytes[9 + length..];
    }
    told
}
