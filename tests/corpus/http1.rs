//! A client over HTTP/1.1 that writes any bytes and reads answers strictly.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::seen::{Answer, Ended, Seen};
use crate::wire::{self, Begin};

/// How long a client waits for anything; nothing that is right takes that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Http1 {
    stream: TcpStream,
    /// By which method each answer was asked for.
    methods: Vec<&'static str>,
    /// Where the bytes begin that are no answer yet.
    at: usize,
    is_tunnel: bool,
    pub seen: Seen,
}

impl Http1 {
    pub async fn connect(address: SocketAddr, methods: Vec<&'static str>) -> std::io::Result<Http1> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Http1 { stream, methods, at: 0, is_tunnel: false, seen: Seen::default() })
    }

    /// Sends; that the proxy may have hung up shows when reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads until the condition holds, or the connection ends, or patience does.
    pub async fn read_until(&mut self, mut condition: impl FnMut(&Seen) -> bool) {
        while self.seen.ended == Ended::Open && self.seen.malformed.is_none() && !condition(&self.seen) {
            match tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.seen.raw)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => self.seen.ended = Ended::Closed,
                Err(_) => self.seen.ended = Ended::Late,
            }
            self.understand();
        }
    }

    fn understand(&mut self) {
        let ended = self.seen.ended == Ended::Closed;
        while !self.is_tunnel && self.at < self.seen.raw.len() {
            let method = self.methods.get(self.seen.answers.len()).copied().unwrap_or("GET");
            match wire::response(&self.seen.raw[self.at..], method, ended) {
                Begin::Whole(message, length) => {
                    self.at += length;
                    let status = message.status();
                    self.is_tunnel = status == 101;
                    if matches!(status, 100..=199) && status != 101 {
                        self.seen.interims += 1;
                        continue;
                    }
                    let closes = message.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
                    self.seen.answers.push(Answer { status, body: message.body, closes, is_whole: true });
                }
                Begin::Part => break,
                Begin::Malformed(why) => {
                    self.seen.malformed = Some(why);
                    return;
                }
            }
        }
        self.seen.rest = self.seen.raw[self.at..].to_vec();
    }
}
