//! A client over HTTP/2 and TLS that sends any frames, and reads of the answers what cases ask for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::case::HOST;
use crate::frame::{self, ACK, DATA, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS};
use crate::http1::PATIENCE;
use crate::seen::{Answer, Ended, Seen};

pub struct Http2 {
    stream: TlsStream<TcpStream>,
    bytes: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
    pub seen: Seen,
}

#[derive(Default)]
struct Stream {
    status: u16,
    body: Vec<u8>,
    is_ended: bool,
    is_reset: bool,
}

impl Http2 {
    /// Connects, and trusts the certificate `pem`.
    pub async fn connect(address: SocketAddr, pem: &str) -> Result<Http2> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(address).await?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST)?, socket);
        let mut stream = tokio::time::timeout(PATIENCE, handshake).await.context("a TLS handshake")??;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "the proxy does not speak HTTP/2");
        stream.write_all(&frame::preface()).await?;
        Ok(Http2 { stream, bytes: Vec::new(), streams: BTreeMap::new(), seen: Seen::default() })
    }

    /// Sends; that the proxy may have hung up shows when reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Reads until the condition holds, or the connection ends, or patience does.
    pub async fn read_until(&mut self, mut condition: impl FnMut(&Seen) -> bool) {
        while self.seen.ended == Ended::Open && !condition(&self.seen) {
            match tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => self.seen.ended = Ended::Closed,
                Err(_) => self.seen.ended = Ended::Late,
            }
            while let Some((kind, flags, stream, payload)) = self.next_frame() {
                self.take(kind, flags, stream, payload).await;
            }
            let done = self.streams.values().filter(|stream| stream.is_ended || stream.is_reset);
            self.seen.answers = done.map(Stream::answer).collect();
        }
    }

    fn next_frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3, ..] = &self.bytes[..] else { return None };
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        let payload = self.bytes.get(9..9 + length)?.to_vec();
        self.bytes.drain(..9 + length);
        Some((kind, flags, u32::from_be_bytes([s0 & 127, s1, s2, s3]), payload))
    }

    async fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: Vec<u8>) {
        let mut line = String::new();
        let _ = write!(line, "stream {stream} frame {kind} flags {flags:#x} {} bytes", payload.len());
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(&frame::frame(SETTINGS, ACK, 0, [])).await,
            PING if flags & ACK == 0 => self.send(&frame::frame(PING, ACK, 0, payload)).await,
            GOAWAY => {
                let _ = write!(line, " GOAWAY {:?}", payload.get(4..8));
                if payload.get(4..8) != Some(&[0; 4]) {
                    self.seen.ended = Ended::Closed;
                }
            }
            RST_STREAM => {
                let _ = write!(line, " RST_STREAM {payload:?}");
                self.streams.entry(stream).or_default().is_reset = true;
            }
            HEADERS => {
                let own = self.streams.entry(stream).or_default();
                let status = status(unpadded(&payload, flags));
                let _ = write!(line, " status {status}");
                if (100..200).contains(&status) {
                    self.seen.interims += 1;
                } else if own.status == 0 {
                    own.status = status;
                }
                own.is_ended |= flags & END_STREAM != 0;
            }
            DATA => {
                let own = self.streams.entry(stream).or_default();
                let bytes = unpadded(&payload, flags & !PRIORITY);
                let _ = write!(line, " {:?}", String::from_utf8_lossy(bytes));
                own.body.extend_from_slice(bytes);
                own.is_ended |= flags & END_STREAM != 0;
            }
            _ => {}
        }
        line.push('\n');
        self.seen.raw.extend(line.into_bytes());
    }
}

impl Stream {
    fn answer(&self) -> Answer {
        // A server may reset a stream whose answer is whole, to stop the request (RFC 9113 section 8.1).
        Answer { status: self.status, body: self.body.clone(), closes: false, is_whole: self.is_ended }
    }
}

/// The payload without padding and priority.
fn unpadded(payload: &[u8], flags: u8) -> &[u8] {
    let (mut from, mut to) = (0, payload.len());
    if flags & PADDED != 0 {
        from += 1;
        to = to.saturating_sub(usize::from(payload.first().copied().unwrap_or_default()));
    }
    if flags & PRIORITY != 0 {
        from += 5;
    }
    payload.get(from..to).unwrap_or_default()
}

/// The status of a block of fields: the first one, of the static table or with its name from there (RFC 7541
/// appendix A). Trailers have none: 0.
fn status(block: &[u8]) -> u16 {
    // Changes of the size of the dynamic table come first; we allow none, so that they are one byte.
    let from = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(block.len());
    let value = match &block[from..] {
        [byte @ 0x88..=0x8e, ..] => return [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)],
        // With or without indexing: 8 to 14 all name `:status`.
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, value @ ..] => value,
        _ => return 0,
    };
    match value {
        [0x03, digits @ ..] => {
            digits.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or_default()
        }
        [length @ 0x82..=0x83, coded @ ..] => {
            let length = usize::from(length & 127);
            huffman_digits(coded.get(..length).unwrap_or_default())
        }
        _ => 0,
    }
}

/// Three digits in the code of RFC 7541 appendix B: 0 to 2 take five bits, the others six.
fn huffman_digits(coded: &[u8]) -> u16 {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = (0..5).fold(0, |code, _| code * 2 + bits.next().unwrap_or(1));
        if code > 2 {
            code = code * 2 + bits.next().unwrap_or(1);
            code = code.wrapping_sub(0x19 - 3);
        }
        number = number * 10 + code;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_way_to_write_it() {
        assert_eq!(status(&[0x88]), 200);
        assert_eq!(status(&[0x20, 0x8d, 0x5f]), 404);
        assert_eq!(status(b"\x08\x03503"), 503);
        assert_eq!(status(b"\x48\x03100"), 100);
        // 302 and 501, Huffman coded.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
        assert_eq!(status(&[0x08, 0x82, 0x6c, 0x01]), 501);
    }
}
