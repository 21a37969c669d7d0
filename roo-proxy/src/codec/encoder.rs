//! Putting a body on the wire (RFC 9112 §7.1).

use bytes::{BufMut, BytesMut};
use http::HeaderMap;

use super::Framing;
use super::head::write_field;

/// How content is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// As it is: its length was given, or the connection's end ends it.
    Plain,
    Chunked,
}

impl Encoder {
    pub(crate) fn new(framing: Framing) -> Encoder {
        if framing == Framing::Chunked { Encoder::Chunked } else { Encoder::Plain }
    }

    /// Appends content. None leaves no trace: an empty chunk would end the body.
    pub(crate) fn content(self, out: &mut BytesMut, content: &[u8]) {
        if content.is_empty() {
            return;
        }
        match self {
            Encoder::Plain => out.extend_from_slice(content),
            Encoder::Chunked => {
                out.reserve(content.len() + SIZE_LINE_BYTES + 2);
                write_size(out, content.len());
                out.put_slice(content);
                out.put_slice(b"\r\n");
            }
        }
    }

    /// Appends what ends the body.
    pub(crate) fn end(self, out: &mut BytesMut, trailers: Option<&HeaderMap>) {
        if self == Encoder::Plain {
            return;
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            write_field(out, name.as_str(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

const SIZE_LINE_BYTES: usize = 18;

fn write_size(out: &mut BytesMut, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.put_u8(b"0123456789abcdef"[(size >> (4 * place)) & 15]);
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal() {
        for (size, text) in [(1, "1"), (15, "f"), (16, "10"), (255, "ff"), (65_536, "10000")] {
            let mut out = BytesMut::new();
            write_size(&mut out, size);
            assert_eq!(out, format!("{text}\r\n"));
        }
    }

    #[test]
    fn trailers_come_last() {
        let mut out = BytesMut::new();
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
        Encoder::Chunked.content(&mut out, b"");
        Encoder::Chunked.content(&mut out, b"hi");
        Encoder::Chunked.end(&mut out, Some(&trailers));
        assert_eq!(out, "2\r\nhi\r\n0\r\netag: x\r\n\r\n");
        let mut out = BytesMut::new();
        Encoder::Plain.content(&mut out, b"hi");
        Encoder::Plain.end(&mut out, Some(&trailers));
        assert_eq!(out, "hi");
    }
}
