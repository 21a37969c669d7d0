//! The head of a response as the client shall see it.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::codec::{Field, Framing, Kind, Response, write_field, write_number};
use crate::request_id::RequestId;

/// A response on its way to a client of HTTP/1.
pub(crate) struct Incoming<'a> {
    pub(crate) response: &'a Response<'a>,
    pub(crate) id: &'a RequestId,
    /// What delimits the body towards the client.
    pub(crate) framing: Framing,
    pub(crate) is_http10: bool,
    /// Whether the connection goes on after it.
    pub(crate) keeps: bool,
    /// What `Date` is where the upstream gave none (RFC 9110 §6.6.1).
    pub(crate) date: &'a str,
}

/// What delimits a body towards a client of HTTP/1, from what the upstream used.
pub(crate) fn client_framing(framing: Framing, is_http10: bool) -> Framing {
    match framing {
        Framing::Chunked | Framing::UntilClose if is_http10 => Framing::UntilClose,
        Framing::Chunked | Framing::UntilClose => Framing::Chunked,
        framing => framing,
    }
}

impl Incoming<'_> {
    /// Appends the whole head, the hop stripped.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        write_status(out, self.is_http10, self.response.status, self.response.reason);
        let mut dated = false;
        for field in passing(self.response) {
            dated |= field.kind == Kind::Date;
            field.write(out);
        }
        if !dated {
            write_field(out, "date", self.date.as_bytes());
        }
        match self.framing {
            Framing::Chunked => write_field(out, "transfer-encoding", b"chunked"),
            framing => {
                if let Some(length) = shown_length(self.response, framing) {
                    write_number(out, "content-length", length);
                }
            }
        }
        self.id.write(out);
        write_connection(out, self.is_http10, self.keeps);
        out.put_slice(b"\r\n");
    }
}

/// Appends a head that is followed by another one, or by another protocol.
pub(crate) fn write_interim(out: &mut BytesMut, response: &Response<'_>, id: Option<&RequestId>) {
    write_status(out, false, response.status, response.reason);
    for field in passing(response) {
        field.write(out);
    }
    if response.status == 101 {
        write_field(out, "connection", b"upgrade");
        for protocol in response.fields.of_kind(Kind::Upgrade) {
            write_field(out, "upgrade", protocol);
        }
    }
    if let Some(id) = id {
        id.write(out);
    }
    out.put_slice(b"\r\n");
}

/// The fields for a client of HTTP/2, their names in lower case.
pub(crate) fn header_map(response: &Response<'_>, framing: Framing) -> HeaderMap {
    // With room for what is added, and for no more: a map that is larger than needed costs as much as filling it.
    let mut headers = HeaderMap::with_capacity(passing(response).count() + 3);
    for field in passing(response) {
        // Both were checked when the head was parsed.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
    if let Some(length) = shown_length(response, framing) {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    headers
}

/// The fields that are for the client: not for this hop, not named by `Connection`, not about framing.
fn passing<'a>(response: &'a Response<'a>) -> impl Iterator<Item = &'a Field<'a>> {
    let fields = &response.fields;
    fields.iter().filter(|field| match field.kind {
        Kind::Connection
        | Kind::ContentLength
        | Kind::Hop
        | Kind::Te
        | Kind::TransferEncoding
        | Kind::Upgrade
        | Kind::XRequestId => false,
        _ => !fields.is_nominated(field.name),
    })
}

/// The length to tell: of the body, or of the one that a `HEAD` or a 304 stands for (RFC 9110 §8.6).
fn shown_length(response: &Response<'_>, framing: Framing) -> Option<u64> {
    match framing {
        Framing::Length(length) => Some(length),
        Framing::None if !matches!(response.status, 100..=199 | 204) => response.fields.content_length().ok().flatten(),
        _ => None,
    }
}

/// Appends a status line.
pub(crate) fn write_status(out: &mut BytesMut, is_http10: bool, status: u16, reason: &[u8]) {
    if (is_http10, status, reason) == (false, 200, b"OK") {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let version = if is_http10 { "HTTP/1.0 " } else { "HTTP/1.1 " };
    let canonical =
        || StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let reason = if reason.is_empty() { canonical().as_bytes() } else { reason };
    out.reserve(version.len() + reason.len() + 6);
    out.put_slice(version.as_bytes());
    out.put_slice(itoa::Buffer::new().format(status).as_bytes());
    out.put_slice(b" ");
    out.put_slice(reason);
    out.put_slice(b"\r\n");
}

/// Appends what `Connection` has to say (RFC 9112 §9.3).
pub(crate) fn write_connection(out: &mut BytesMut, is_http10: bool, keeps: bool) {
    match (keeps, is_http10) {
        (false, _) => write_field(out, "connection", b"close"),
        (true, true) => write_field(out, "connection", b"keep-alive"),
        (true, false) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn passed(head: &str, to_head: bool, is_http10: bool, keeps: bool) -> String {
        let response = Response::parse(head.as_bytes()).unwrap();
        let framing = Framing::of_response(&response.fields, response.is_http10, response.status, to_head).unwrap();
        let framing = client_framing(framing, is_http10);
        let (id, mut out) = (RequestId::new(), BytesMut::new());
        Incoming { response: &response, id: &id, framing, is_http10, keeps, date: "now" }.write(&mut out);
        String::from_utf8(out.to_vec()).unwrap().replace(id.as_str(), "ID")
    }

    #[test]
    fn the_hop_is_stripped_and_ours_is_added() {
        let head = "HTTP/1.1 200 Fine\r\nConnection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nUpgrade: h2\r\n\
                    Proxy-Authenticate: x\r\nX-Request-Id: theirs\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(
            passed(head, false, false, true),
            "HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\ndate: now\r\ncontent-length: 2\r\nx-request-id: ID\r\n\r\n"
        );
    }

    #[test]
    fn the_frame_is_the_clients() {
        let frame = |head: &str, to_head, is_http10| {
            let text = passed(head, to_head, is_http10, true);
            let is_frame = |line: &&str| line.starts_with("content-length") || line.starts_with("transfer-encoding");
            text.lines().filter(is_frame).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            frame("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, false),
            "transfer-encoding: chunked"
        );
        assert_eq!(frame("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, true), "");
        assert_eq!(frame("HTTP/1.0 200 OK\r\n\r\n", false, false), "transfer-encoding: chunked");
        assert_eq!(frame("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true, false), "content-length: 7");
        assert_eq!(frame("HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n", false, false), "content-length: 7");
        assert_eq!(frame("HTTP/1.1 204 x\r\nContent-Length: 7\r\n\r\n", false, false), "");
        assert_eq!(frame("HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", false, false), "content-length: 0");
    }

    #[test]
    fn what_becomes_of_the_connection_is_told() {
        let head = "HTTP/1.1 200\r\nDate: then\r\nContent-Length: 0\r\n\r\n";
        assert!(passed(head, false, false, false).contains("\r\nconnection: close\r\n"));
        assert!(passed(head, false, true, true).contains("\r\nconnection: keep-alive\r\n"));
        let kept = passed(head, false, false, true);
        assert!(kept.starts_with("HTTP/1.1 200 OK\r\nDate: then\r\n") && !kept.contains("connection"), "{kept}");
    }

    #[test]
    fn http2_has_the_same_fields() {
        let head = "HTTP/1.1 200 OK\r\nX-Own: a\r\nConnection: X-Mine\r\nX-Mine: b\r\nContent-Length: 2\r\n\r\n";
        let response = Response::parse(head.as_bytes()).unwrap();
        let headers = header_map(&response, Framing::Length(2));
        let mut names: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        names.sort();
        assert_eq!(names, ["content-length: 2", "x-own: a"]);
    }
}
