//! Hostile bytes through every parser and out of every writer: whatever is let in must leave as one message, framed the
//! same way and read the same way. `PROPTEST_CASES` sets how many are tried; `make fuzz` tries many.

#![allow(clippy::unwrap_used)]

use bytes::{Buf, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Version};
use proptest::prelude::*;

use crate::codec::{Decoder, Fields, Framing, HeadEnd, Kind, Request, Response, Step};
use crate::forward::{Incoming, Outgoing, Peer, client_framing, header_map, upgrade_wanted};
use crate::origin::Scheme;
use crate::proxy_protocol::Ends;
use crate::request_id::RequestId;
use crate::route::Route;
use crate::target::{RecentHost, Target};
use crate::upstream::Upstreams;

/// What messages are made of, and what has fooled parsers before.
const PIECES: &[&str] = &[
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "CONNECT",
    " ",
    "  ",
    "/",
    "/a?b",
    "*",
    "http://shop.test/",
    "//",
    "#",
    "%00",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/2\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 304 \r\n",
    "HTTP/1.1 101 \r\n",
    "Host: shop.test\r\n",
    "Host: SHOP.test.:80\r\n",
    "host:\r\n",
    "Host: [::1]\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +5\r\n",
    "content-length: 0005\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Connection: close, x-own\r\n",
    "Connection: keep-alive\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "TE: trailers\r\n",
    "Expect: 100-continue\r\n",
    "X-Own: 1\r\n",
    "X-Forwarded-For: evil\r\n",
    "X_Real_IP: evil\r\n",
    "Cookie: a=1\r\n",
    "Cookie: b=2; c\r\n",
    "Set-Cookie: a=1\r\n",
    "Trailer: x\r\n",
    ": ",
    ":",
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\r\n ",
    "\t",
    "\0",
    "\u{fc}",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: 1\r\n\r\n",
    "ffffffff\r\n",
    "1;a=\"b\"\r\nx\r\n",
    "0x5\r\n",
    "-1\r\n",
];

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A head that begins as one should, so that more than the first line is looked at.
fn heads(first: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let begin = proptest::sample::select(vec![first, ""]);
    (begin, pieces()).prop_map(|(begin, rest)| [begin.as_bytes(), &rest[..], b"\r\n\r\n"].concat())
}

/// The head at the front of the bytes, if there is one.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let length = HeadEnd::default().find(bytes).ok()??;
    Some(&bytes[..length])
}

/// What an upstream gets of a request that passes.
fn forwarded(request: &Request<'_>, trusted: bool) -> Option<BytesMut> {
    let target = Target::of(request, &RecentHost::default()).ok()?;
    if request.fields.has_alias() || !(request.path.starts_with('/') || request.path == "*") {
        return None;
    }
    let ends = Ends::new(([192, 0, 2, 7], 1).into(), ([192, 0, 2, 1], 443).into());
    let (id, peer) = (RequestId::new(), Peer::new(1, ends, trusted, Scheme::Https));
    let upgrade = upgrade_wanted(request);
    let began = tokio::time::Instant::now();
    let outgoing = Outgoing { request, target: &target, id: &id, peer: &peer, upgrade, trace: None, began };
    let route: Route = "http://192.0.2.1:81/base".parse().unwrap();
    let mut out = BytesMut::new();
    outgoing.write(&mut out, &Upstreams::new(&route).list[0]);
    Some(out)
}

/// The bytes are one head, and nothing in them could be taken for another.
fn is_one_request(out: &[u8], method: &str, framing: Framing) {
    let text = String::from_utf8_lossy(out);
    assert_eq!(head(out).map(<[u8]>::len), Some(out.len()), "{text}");
    let again = Request::parse(out).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
    assert_eq!((again.method, again.framing), (method, framing), "{text}");
    assert_eq!(again.fields.of_kind(Kind::Host).count(), 1, "{text}");
    assert!(again.fields.of_kind(Kind::Cookie).count() <= 1, "{text}");
    assert!(!again.fields.has_alias(), "{text}");
}

proptest! {
    #[test]
    fn requests(bytes in heads("POST / HTTP/1.1\r\nHost: shop.test\r\n"), trusted: bool) {
        let Some(head) = head(&bytes) else { return Ok(()) };
        let Ok(request) = Request::parse(head) else { return Ok(()) };
        if let Some(out) = forwarded(&request, trusted) {
            is_one_request(&out, request.method, request.framing);
        }
    }

    #[test]
    fn responses(bytes in heads("HTTP/1.1 200 OK\r\n"), to_head: bool, is_http10: bool, keeps: bool) {
        let Some(head) = head(&bytes) else { return Ok(()) };
        let Ok(response) = Response::parse(head) else { return Ok(()) };
        let Ok(framing) = Framing::of_response(&response.fields, response.is_http10, response.status, to_head) else {
            return Ok(());
        };
        // What clients of HTTP/2 get: names and values that their library has checked again.
        let _ = header_map(&response, framing);
        if response.status < 200 {
            return Ok(());
        }
        let (towards, id) = (client_framing(framing, is_http10), RequestId::new());
        let keeps = keeps && towards != Framing::UntilClose;
        let mut out = BytesMut::new();
        Incoming { response: &response, id: &id, framing: towards, is_http10, keeps, date: "now" }.write(&mut out);
        let text = String::from_utf8_lossy(&out);
        prop_assert_eq!(HeadEnd::default().find(&out).unwrap(), Some(out.len()), "{}", text);
        let again = Response::parse(&out).unwrap();
        prop_assert_eq!(again.status, response.status, "{}", text);
        let framed = Framing::of_response(&again.fields, again.is_http10, again.status, to_head).unwrap();
        prop_assert_eq!(framed, towards, "{}", text);
        prop_assert_eq!(again.fields.keeps(again.is_http10), keeps, "{}", text);
    }

    /// What HTTP/2 lets through is more than what HTTP/1 may carry.
    #[test]
    fn http2_to_http1(
        path in "[ -~\\x80-\\xff]{0,20}",
        lines in proptest::collection::vec((
            prop_oneof!["cookie|host|te|connection|upgrade|expect|content-length|transfer-encoding|x-own|x_real_ip", "[!-~]{1,8}"],
            proptest::collection::vec(any::<u8>(), 0..12),
        ), 0..12),
        length in proptest::option::of(0_u64..100),
        has_body: bool,
    ) {
        let Ok(path) = PathAndQuery::try_from(path.as_bytes()) else { return Ok(()) };
        let lines: Vec<_> = lines.iter().filter_map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
        }).collect();
        let fields = Fields::of(lines.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let framing = match length {
            Some(length) => Framing::Length(length),
            None if has_body => Framing::Chunked,
            None => Framing::None,
        };
        let request = Request {
            method: "POST",
            version: Version::HTTP_2,
            scheme: Some("https"),
            authority: Some("shop.test"),
            path: path.as_str().into(),
            fields,
            framing,
        };
        if let Some(out) = forwarded(&request, false) {
            is_one_request(&out, "POST", framing);
        }
    }

    /// However long it goes on, no more is kept than a section of trailers may have.
    #[test]
    fn bodies(parts in proptest::collection::vec(pieces(), 1..12), piece in 1_usize..40) {
        let (bytes, mut body) = (parts.concat(), Decoder::new(Framing::Chunked));
        let (mut input, mut content) = (BytesMut::new(), 0);
        for part in bytes.chunks(piece) {
            input.extend_from_slice(part);
            loop {
                match body.step(&mut input) {
                    Ok(Step::Content(found)) => {
                        input.advance(found);
                        body.took(found);
                        content += found;
                    }
                    Ok(Step::More) => break,
                    Ok(Step::End) | Err(_) => return Ok(()),
                }
            }
            prop_assert!(input.len() <= 8 * 1024 + piece);
        }
        prop_assert!(content <= bytes.len());
    }
}
