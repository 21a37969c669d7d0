//! A JSON object a line. What is not known is left out.

use std::io::Write;
use std::time::Duration;

use super::combined::version;
use super::{cut, field, number, path};
use crate::access::AccessFormat;
use crate::access::clock::Clock;
use crate::access::mask::masked;
use crate::access::note::{Note, Summary};
use crate::access::text::quoted;
use crate::codec::Request;
use crate::request_id::RequestId;
use crate::upstream::address::Address;

const FORMAT: AccessFormat = AccessFormat::Json;

/// Bytes of a method that a line has.
const METHOD_BYTES_MAX: usize = 32;

/// Notes the request.
pub(crate) fn ask(note: &mut Note, request: Option<&Request<'_>>, id: &RequestId) {
    let out = &mut note.asked;
    key(out, "request_id");
    quoted(out, id.as_bytes(), FORMAT);
    let Some(request) = request else { return };
    if let Some(host) = host(request) {
        key(out, "host");
        quoted(out, cut(host, super::FIELD_BYTES_MAX), FORMAT);
    }
    key(out, "method");
    quoted(out, cut(request.method.as_bytes(), METHOD_BYTES_MAX), FORMAT);
    key(out, "path");
    out.push(b'"');
    masked(out, path(request), FORMAT);
    out.push(b'"');
    known(out, "protocol", version(request));
    if let Some(referer) = field(request, "referer") {
        key(out, "referer");
        out.push(b'"');
        masked(out, referer, FORMAT);
        out.push(b'"');
    }
    if let Some(agent) = field(request, "user-agent") {
        key(out, "user_agent");
        quoted(out, agent, FORMAT);
    }
}

/// The host as the client wrote it.
fn host<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    request.authority.map(str::as_bytes).or_else(|| request.fields.host().ok().flatten())
}

/// Appends the line.
pub(crate) fn line(out: &mut Vec<u8>, note: &Note, summary: &Summary<'_>, clock: &Clock, node: &str) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.write(out, summary.began);
    out.push(b'"');
    if !node.is_empty() {
        key(out, "node");
        quoted(out, node.as_bytes(), FORMAT);
    }
    known(out, "client", &summary.client.peer.address);
    out.extend_from_slice(&note.asked);
    if let Some(trace) = summary.trace {
        digits(out, "trace_id", Some(trace.trace()));
        digits(out, "span_id", Some(trace.span()));
        digits(out, "parent_id", trace.parent());
    }
    key(out, "status");
    number(out, summary.status);
    if let Some(error) = summary.error {
        known(out, "error", error);
    }
    known(out, "end", summary.end.name());
    key(out, "received_bytes");
    number(out, summary.received);
    key(out, "sent_bytes");
    number(out, summary.sent);
    seconds(out, "duration_seconds", Some(summary.duration));
    seconds(out, "connect_seconds", note.connect());
    seconds(out, "first_byte_seconds", note.first_byte());
    if let Some(route) = summary.route {
        key(out, "route");
        quoted(out, route.as_bytes(), FORMAT);
    }
    if let Some((upstream, address)) = note.upstream() {
        key(out, "upstream");
        quoted(out, upstream.as_bytes(), FORMAT);
        key(out, "address");
        socket(out, address);
    }
    if note.retries() > 0 {
        key(out, "retries");
        number(out, note.retries());
    }
    if let Some(tls) = &summary.client.tls {
        known(out, "tls", tls.version);
        known(out, "cipher", tls.cipher);
    }
    out.extend_from_slice(b"}\n");
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A text of our own, in which nothing needs to be escaped.
fn known(out: &mut Vec<u8>, name: &str, text: &str) {
    key(out, name);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn digits(out: &mut Vec<u8>, name: &str, digits: Option<&[u8]>) {
    let Some(digits) = digits else { return };
    key(out, name);
    out.push(b'"');
    out.extend_from_slice(digits);
    out.push(b'"');
}

/// Seconds with six places.
fn seconds(out: &mut Vec<u8>, name: &str, duration: Option<Duration>) {
    let Some(duration) = duration else { return };
    key(out, name);
    number(out, duration.as_secs());
    out.push(b'.');
    let micros = duration.subsec_micros();
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(micros);
    out.extend_from_slice(&b"000000"[digits.len()..]);
    out.extend_from_slice(digits.as_bytes());
}

fn socket(out: &mut Vec<u8>, address: &Address) {
    match address {
        // Writing into memory does not fail.
        Address::Ip(address) => drop(write!(out, "\"{address}\"")),
        Address::Unix(path) => quoted(out, path.as_bytes(), FORMAT),
    }
}
