//! Response heads.

use std::mem::MaybeUninit;

use super::head::FIELDS_MAX;
use super::{Fields, Malformed};

/// What a response head of HTTP/1 says.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// The words after the status, for people.
    pub(crate) reason: &'a str,
    pub(crate) is_http10: bool,
    pub(crate) fields: Fields<'a>,
}

impl<'a> Response<'a> {
    /// Parses a whole head, its empty line included (RFC 9112 §4, §5).
    ///
    /// # Errors
    ///
    /// If it is none.
    pub(crate) fn parse(head: &'a [u8]) -> Result<Response<'a>, Malformed> {
        // The parser would pass over empty lines in front.
        if !head.starts_with(b"HTTP/1.") {
            return Err(INVALID);
        }
        let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, head, &mut lines)
            .map_err(|_| INVALID)?;
        let (Some(code @ 100..), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(INVALID);
        };
        if status != httparse::Status::Complete(head.len()) {
            return Err(INVALID);
        }
        let fields = Fields::of(parsed.headers.iter().map(|line| (line.name, line.value)));
        Ok(Response { status: code, reason: parsed.reason.unwrap_or_default(), is_http10: minor == 0, fields })
    }

    /// Whether another head follows (RFC 9110 §15.2).
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

const INVALID: Malformed = Malformed("the response head is not valid");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_taken_apart() {
        let response = Response::parse(b"HTTP/1.0 404 Not Here\r\nServer: x\r\n\r\n").unwrap();
        assert_eq!((response.status, response.reason, response.is_http10), (404, "Not Here", true));
        assert!(!response.is_interim());
        assert!(Response::parse(b"HTTP/1.1 103\r\n\r\n").unwrap().is_interim());
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 2000 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(Response::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Response::parse(&bytes);
        }
    }
}
