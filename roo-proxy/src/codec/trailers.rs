//! The field lines behind a chunked body.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Malformed;
use super::field::{Field, Kind};

/// Most trailer fields of one body.
const TRAILERS_MAX: usize = 128;

/// Parses a trailer section, its empty line included (RFC 9112 §7.1.2).
///
/// # Errors
///
/// If it is none, or has more than 32 fields.
pub(super) fn parse(section: &[u8]) -> Result<HeaderMap, Malformed> {
    let wrong = Malformed("the trailer section is not valid");
    let mut lines = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let status = httparse::parse_headers(section, &mut lines).map_err(|_| wrong)?;
    let httparse::Status::Complete((length, lines)) = status else { return Err(wrong) };
    if length != section.len() {
        return Err(wrong);
    }
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| wrong)?;
        trailers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| wrong)?);
    }
    only_passable(&mut trailers);
    Ok(trailers)
}

/// Takes out what must not come after a body: whoever merges trailers into the fields would believe it
/// (RFC 9110 §6.5.1).
pub(crate) fn only_passable(trailers: &mut HeaderMap) {
    let barred: Vec<HeaderName> = trailers.keys().filter(|name| !is_passable(name.as_str())).cloned().collect();
    for name in barred {
        trailers.remove(name);
    }
}

/// Framing, routing, authentication, what controls a request, and what tells of clients.
fn is_passable(name: &str) -> bool {
    let controls = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "max-forwards",
        "pragma",
        "range",
        "set-cookie",
        "trailer",
        "www-authenticate",
    ];
    Field::new(name.as_bytes(), b"").kind == Kind::EndToEnd && !controls.contains(&name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_would_be_believed_is_taken_out() {
        let section = b"X-Sum: 1\r\nContent-Length: 5\r\nHost: evil\r\nX-Real-IP: evil\r\nX_Real_IP: evil\r\nAuthorization: x\r\n\r\n";
        let trailers = parse(section).unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-sum"], "1");
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in ["X: 1\r\n", "X : 1\r\n\r\n", "X: 1\r\n folded\r\n\r\n", "X: 1\r\n\r\nmore"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
