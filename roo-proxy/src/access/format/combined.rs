//! The combined log format: `client - - [time] "request" status bytes "referer" "agent"`.

use super::{field, number, path};
use crate::access::AccessFormat;
use crate::access::clock::Clock;
use crate::access::mask::masked;
use crate::access::note::{Note, Summary};
use crate::access::text::{escaped, quoted};
use crate::codec::Request;

const FORMAT: AccessFormat = AccessFormat::Combined;

/// Notes the request, and behind it what stands behind the answer.
pub(crate) fn ask(note: &mut Note, request: Option<&Request<'_>>) {
    let out = &mut note.asked;
    out.push(b'"');
    if let Some(request) = request {
        escaped(out, request.method.as_bytes(), FORMAT);
        out.push(b' ');
        masked(out, path(request), FORMAT);
        out.push(b' ');
        out.extend_from_slice(version(request).as_bytes());
    }
    out.extend_from_slice(b"\" ");
    note.split = out.len();
    let value = |name| request.and_then(|request| field(request, name));
    out.extend_from_slice(b" \"");
    match value("referer") {
        Some(referer) => masked(out, referer, FORMAT),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    quoted(out, value("user-agent").unwrap_or(b"-"), FORMAT);
}

pub(super) fn version(request: &Request<'_>) -> &'static str {
    match request.version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Appends the line.
pub(crate) fn line(out: &mut Vec<u8>, note: &Note, summary: &Summary<'_>, clock: &Clock) {
    let (request, behind) = note.asked.split_at(note.split);
    out.extend_from_slice(summary.client.peer.address.as_bytes());
    out.extend_from_slice(b" - - [");
    clock.write(out, summary.began);
    out.extend_from_slice(b"] ");
    out.extend_from_slice(request);
    number(out, summary.status);
    out.push(b' ');
    number(out, summary.sent);
    out.extend_from_slice(behind);
    out.push(b'\n');
}
