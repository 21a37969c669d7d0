//! Request heads.

use std::borrow::Cow;

use http::Version;

use super::lines::{LineFault, Lines, TARGET, TOKEN};
use super::{Fields, Framing, Malformed};

/// What a request head says, whichever protocol it came by.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) version: Version,
    /// The scheme in the target: of the absolute form, or `:scheme`.
    pub(crate) scheme: Option<&'a str>,
    /// The host in the target: of the absolute form, or `:authority`.
    pub(crate) authority: Option<&'a str>,
    /// Path and query; begins with `/`, or is `*` or, for `CONNECT`, the whole target.
    pub(crate) path: Cow<'a, str>,
    pub(crate) fields: Fields<'a>,
    pub(crate) framing: Framing,
}

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFault {
    Malformed(Malformed),
    /// There are too many field lines.
    TooLarge,
}

impl From<Malformed> for RequestFault {
    fn from(malformed: Malformed) -> RequestFault {
        RequestFault::Malformed(malformed)
    }
}

impl<'a> Request<'a> {
    /// Parses a head with nothing behind it. Errors as of [`Request::parse_front`].
    pub(crate) fn parse(head: &'a [u8]) -> Result<Request<'a>, RequestFault> {
        let (request, length) = Request::parse_front(head)?;
        if length == head.len() { Ok(request) } else { Err(INCOMPLETE.into()) }
    }

    /// Parses the head at the front of `bytes`, its empty line included (RFC 9112 §3, §5); gives its length as well.
    ///
    /// # Errors
    ///
    /// If it is none or not complete, or there is any doubt about where the message ends.
    pub(crate) fn parse_front(bytes: &'a [u8]) -> Result<(Request<'a>, usize), RequestFault> {
        let mut lines = Lines::new(bytes);
        let method = lines.word(&TOKEN).and_then(text).map_err(fault)?;
        let target = lines.word(&TARGET).and_then(text).map_err(fault)?;
        let is_http10 = lines.is_http10().map_err(fault)?;
        lines.end().map_err(fault)?;
        let (scheme, authority, path) = parse_target(method, target)?;
        let fields = Fields::read(&mut lines).map_err(fault)?;
        let framing = Framing::of_request(&fields, is_http10)?;
        let version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
        Ok((Request { method, version, scheme, authority, path, fields, framing }, lines.read()))
    }

    pub(crate) fn is_http10(&self) -> bool {
        self.version == Version::HTTP_10
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether sending it twice does no more than sending it once (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
    }
}

const INCOMPLETE: Malformed = Malformed("the request head is not valid");

fn text(bytes: &[u8]) -> Result<&str, LineFault> {
    if bytes == b"GET" {
        return Ok("GET");
    }
    std::str::from_utf8(bytes).map_err(|_| LineFault::First)
}

fn fault(fault: LineFault) -> RequestFault {
    let words = match fault {
        LineFault::Incomplete => return INCOMPLETE.into(),
        LineFault::Many => return RequestFault::TooLarge,
        LineFault::First => "the request line is not valid",
        LineFault::Version => "the version is not HTTP/1.1 or HTTP/1.0",
        LineFault::Name => "a field name is not valid",
        LineFault::Value => "a field value is not valid",
        LineFault::End => "a line does not end with CR LF",
    };
    Malformed(words).into()
}

/// Scheme, authority, path and query of a target.
type Target<'a> = (Option<&'a str>, Option<&'a str>, Cow<'a, str>);

/// The forms of a target (RFC 9112 §3.2).
fn parse_target<'a>(method: &str, target: &'a str) -> Result<Target<'a>, Malformed> {
    if target.starts_with('/') || target == "*" || method == "CONNECT" {
        return Ok((None, None, target.into()));
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(Malformed("the request target is neither a path nor a URL"));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Malformed("the scheme of the request target is not http or https"));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err(Malformed("the request target has no host"));
    }
    let path = match path.as_bytes().first() {
        None if method == "OPTIONS" => "*".into(),
        None => "/".into(),
        Some(b'?') => format!("/{path}").into(),
        Some(_) => path.into(),
    };
    Ok((Some(scheme), Some(authority), path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::head::FIELDS_MAX;
    use super::*;

    fn parse(text: &str) -> Result<Request<'_>, RequestFault> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_taken_apart() {
        let request =
            parse("POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-Own: \t1 \r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((request.method, &*request.path, request.authority), ("POST", "/a?b=c", None));
        assert_eq!((request.version, request.framing), (Version::HTTP_11, Framing::Length(5)));
        assert_eq!(request.fields.host(), Ok(Some(&b"a.example"[..])));
        let own = request.fields.iter().find(|field| field.name == b"X-Own").unwrap();
        assert_eq!(own.value, b"1");
    }

    #[test]
    fn targets_have_four_forms() {
        let target = |method: &str, target: &str| {
            let text = format!("{method} {target} HTTP/1.1\r\n\r\n");
            parse(&text).map(|request| (request.authority.map(str::to_owned), request.path.into_owned()))
        };
        assert_eq!(target("GET", "/"), Ok((None, "/".into())));
        assert_eq!(target("GET", "HTTP://a.example:1/b?c"), Ok((Some("a.example:1".into()), "/b?c".into())));
        assert_eq!(target("GET", "http://a.example"), Ok((Some("a.example".into()), "/".into())));
        assert_eq!(target("GET", "http://a.example?b"), Ok((Some("a.example".into()), "/?b".into())));
        assert_eq!(target("OPTIONS", "http://a.example"), Ok((Some("a.example".into()), "*".into())));
        assert_eq!(target("OPTIONS", "*"), Ok((None, "*".into())));
        assert_eq!(target("CONNECT", "a.example:443"), Ok((None, "a.example:443".into())));
        for bad in ["a.example:443", "ftp://a.example/", "http:///a", "a", "/a#b", "?a"] {
            assert!(target("GET", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA B: c\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /  HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "GET /\r\n\r\n",
            "G(T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\nrest",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(parse(&many).unwrap_err(), RequestFault::TooLarge);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Request::parse_front(&bytes);
        }

        #[test]
        fn nearly_valid_heads_do_not_panic(
            line in "(GET|POST|OPTIONS) [!-~]{1,20} HTTP/1.[01]",
            fields in proptest::collection::vec("[A-Za-z_-]{1,20}:[ -~\t]{0,20}", 0..8),
        ) {
            let text = format!("{line}\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
            if let Ok(request) = parse(&text) {
                prop_assert!(request.path.starts_with('/') || request.path == "*");
                prop_assert_eq!(request.fields.iter().count(), fields.len());
            }
        }

        #[test]
        fn another_parser_understands_the_same(
            line in "[A-Za-z!/]{1,5} {1,2}[ -~]{1,9} HTTP/1.[0-2](\r\n|\n|\r| )",
            fields in proptest::collection::vec("[A-Z_a-z -]{0,9}[:;][ -~\t\r\u{80}-\u{ff}]{0,20}(\r\n|\n|\r\n )", 0..5),
            end in "(\r\n|\n|\r)",
        ) {
            let text = format!("{line}{}{end}", fields.concat());
            let mut lines = [httparse::EMPTY_HEADER; 16];
            let mut other = httparse::Request::new(&mut lines);
            let status = other.parse(text.as_bytes());
            let ours = Request::parse_front(text.as_bytes());
            if let Ok((request, length)) = &ours {
                prop_assert_eq!(status, Ok(httparse::Status::Complete(*length)));
                prop_assert_eq!((other.method, other.path), (Some(request.method), Some(&*request.path)));
                let theirs = other.headers.iter().map(|line| (line.name.as_bytes(), line.value));
                prop_assert!(theirs.eq(request.fields.iter().map(|field| (field.name, field.value))));
                let mut written = bytes::BytesMut::new();
                request.fields.iter().for_each(|field| field.write(&mut written));
                let anew: Vec<u8> = request.fields.iter().flat_map(|f| [f.name, b": ", f.value, b"\r\n"].concat()).collect();
                prop_assert_eq!(&written[..], anew);
            } else if matches!(status, Ok(httparse::Status::Complete(_))) {
                // What it bears and we do not.
                let bare = text.replace("\r\n", "").contains('\n');
                let target = other.path.unwrap_or_default();
                let fault = ours.unwrap_err();
                let of_framing = matches!(fault, RequestFault::Malformed(Malformed(why)) if why.contains("Encoding") || why.contains("Length"));
                prop_assert!(bare || of_framing || target.contains('#') || !target.starts_with('/'), "{:?}: {:?}", fault, text);
            }
        }
    }
}
