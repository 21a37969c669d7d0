//! Heads between HTTP/1 and HTTP/2 (RFC 9113 §8.2, §8.3; RFC 8441 §5).

use bytes::{BufMut, BytesMut};
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, response};

use crate::codec::{Encoder, Framing, Kind, Malformed, Request, write_field};
use crate::grpc;
use crate::origin::Scheme;
use crate::websocket;

/// The head of a stream, of one that HTTP/1 would send. A `websocket` is asked for by an extended `CONNECT`; any other
/// protocol to change to is not passed on.
pub(super) fn request(
    head: &Request<'_>,
    scheme: Scheme,
    websocket: Option<Protocol>,
) -> Result<http::Request<()>, Malformed> {
    let mut request = http::Request::new(());
    *request.method_mut() = match &websocket {
        Some(_) => Method::CONNECT,
        None => Method::from_bytes(head.method.as_bytes()).map_err(|_| Malformed("the method is not valid"))?,
    };
    *request.uri_mut() = uri(head, scheme)?;
    *request.headers_mut() = fields(head, websocket.is_some())?;
    if let Some(protocol) = websocket {
        request.extensions_mut().insert(protocol);
    }
    Ok(request)
}

/// The key of a request that asks for a WebSocket.
pub(super) fn websocket_key<'a>(head: &Request<'a>) -> Option<&'a [u8]> {
    let asks = head.fields.names_upgrade() && head.fields.lists(Kind::Upgrade, websocket::WEBSOCKET);
    let mut fields = head.fields.iter().filter(|_| asks);
    fields.find(|field| field.name.eq_ignore_ascii_case(websocket::KEY.as_bytes())).map(|field| field.value)
}

fn uri(head: &Request<'_>, scheme: Scheme) -> Result<Uri, Malformed> {
    let host = head.fields.host()?.ok_or(Malformed("there is no Host field"))?;
    let authority = Authority::try_from(host).map_err(|_| Malformed("the Host field is not valid"))?;
    let path = PathAndQuery::try_from(&*head.path).map_err(|_| Malformed("the request target is not valid"))?;
    let builder = Uri::builder().scheme(scheme.as_str()).authority(authority).path_and_query(path);
    builder.build().map_err(|_| Malformed("the request target is not valid"))
}

/// What belongs to the connection stays behind; what frames the body goes with the frames.
fn fields(head: &Request<'_>, is_websocket: bool) -> Result<HeaderMap, Malformed> {
    let mut fields = HeaderMap::with_capacity(24);
    for field in head.fields.iter() {
        let passes = match field.kind {
            Kind::Host | Kind::Connection | Kind::TransferEncoding | Kind::Upgrade | Kind::Hop => false,
            Kind::Te => field.value.eq_ignore_ascii_case(b"trailers"),
            // The handshake is the stream's own (RFC 8441 §5.1).
            _ => !is_websocket || !field.name.eq_ignore_ascii_case(websocket::KEY.as_bytes()),
        };
        if passes {
            let name = HeaderName::from_bytes(field.name);
            let name = name.map_err(|_| Malformed("a field name is not valid"))?;
            let value = HeaderValue::from_bytes(field.value);
            let mut value = value.map_err(|_| Malformed("a field value is not valid"))?;
            // What never comes again must not push out of the table what does.
            value.set_sensitive(matches!(field.kind, Kind::XRequestId | Kind::TraceParent));
            fields.append(name, value);
        }
    }
    Ok(fields)
}

/// How a response's body comes, and with it how it is coded.
pub(super) fn coding(head: &response::Parts, is_end: bool) -> Framing {
    match head.headers.get(http::header::CONTENT_LENGTH) {
        _ if is_end => Framing::None,
        // The status of a call comes behind its body, and only the chunked coding has a place for it.
        Some(_) if !is_call(&head.headers) => Framing::UntilClose,
        _ => Framing::Chunked,
    }
}

fn is_call(fields: &HeaderMap) -> bool {
    fields.get(http::header::CONTENT_TYPE).is_some_and(|content_type| grpc::is_grpc(content_type.as_bytes()))
}

/// Appends a response's head as HTTP/1 has it. The connection is told to end with it, since it can't be used again.
pub(super) fn write_response(out: &mut BytesMut, head: &response::Parts, coding: Framing) {
    write_status(out, head.status.as_u16());
    write_fields(out, &head.headers, coding);
    if Encoder::new(coding) == Encoder::Chunked {
        write_field(out, "transfer-encoding", b"chunked");
    }
    out.put_slice(b"connection: close\r\n\r\n");
}

/// Appends a head that is followed by another one.
pub(super) fn write_interim(out: &mut BytesMut, head: &response::Parts) {
    write_status(out, head.status.as_u16());
    write_fields(out, &head.headers, Framing::Chunked);
    out.put_slice(b"\r\n");
}

/// Appends what tells that the protocol is changed, for a client that has sent `key`.
pub(super) fn write_websocket(out: &mut BytesMut, head: &response::Parts, key: &[u8]) {
    write_status(out, 101);
    write_fields(out, &head.headers, Framing::Chunked);
    out.put_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    write_field(out, websocket::ACCEPT, websocket::accept(key).as_bytes());
    out.put_slice(b"\r\n");
}

fn write_status(out: &mut BytesMut, status: u16) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(itoa::Buffer::new().format(status).as_bytes());
    out.put_slice(b" \r\n");
}

/// A length only where it says where the body ends. What may not be in HTTP/2, the library has refused.
fn write_fields(out: &mut BytesMut, fields: &HeaderMap, coding: Framing) {
    for (name, value) in fields {
        let passes = match name.as_str() {
            "content-length" => coding != Framing::Chunked,
            websocket::ACCEPT => false,
            _ => true,
        };
        if passes {
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn translated(head: &str, websocket: bool) -> Result<Vec<String>, Malformed> {
        let head = Request::parse(head.as_bytes()).unwrap();
        let protocol = websocket.then(|| Protocol::from_static("websocket"));
        let request = request(&head, Scheme::Https, protocol)?;
        let mut lines = vec![format!("{} {}", request.method(), request.uri())];
        let fields = request.headers().iter();
        lines.extend(fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
        Ok(lines)
    }

    #[test]
    fn what_belongs_to_the_connection_stays_behind() {
        let head = "POST /a?b HTTP/1.1\r\nHost: a.example:81\r\nX-Own: 1\r\nConnection: te\r\nTE: trailers\r\n\
                    Transfer-Encoding: chunked\r\nKeep-Alive: 1\r\nUpgrade: other\r\n\r\n";
        let sent = translated(head, false).unwrap();
        assert_eq!(sent, ["POST https://a.example:81/a?b", "x-own: 1", "te: trailers"]);
    }

    #[test]
    fn options_may_ask_for_all() {
        let head = Request::parse(b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let request = request(&head, Scheme::Http, None).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap(), "*");
    }

    #[test]
    fn a_websocket_is_asked_for_by_connect() {
        let head = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let sent = translated(head, true).unwrap();
        assert_eq!(sent, ["CONNECT https://a.example/chat", "sec-websocket-version: 13"]);
    }

    #[test]
    fn a_response_is_told_as_http1_has_it() {
        let told = |is_end: bool, fields: &[(&str, &str)]| {
            let mut response = http::Response::builder().status(200);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            let (head, ()) = response.body(()).unwrap().into_parts();
            let mut out = BytesMut::new();
            write_response(&mut out, &head, coding(&head, is_end));
            String::from_utf8(out.to_vec()).unwrap()
        };
        let close = "connection: close\r\n\r\n";
        assert_eq!(told(false, &[]), format!("HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n{close}"));
        assert_eq!(told(true, &[("a", "b")]), format!("HTTP/1.1 200 \r\na: b\r\n{close}"));
        let length = ("content-length", "3");
        assert_eq!(told(false, &[length]), format!("HTTP/1.1 200 \r\ncontent-length: 3\r\n{close}"));
        let grpc = told(false, &[length, ("content-type", "application/grpc+proto")]);
        assert!(grpc.contains("chunked") && !grpc.contains("content-length"), "{grpc}");
    }
}
