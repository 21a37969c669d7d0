//! Response heads.

use super::lines::{LineFault, Lines};
use super::{Fields, Malformed};

/// What a response head of HTTP/1 says.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// The words after the status, for people; none if they are not ASCII.
    pub(crate) reason: &'a [u8],
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
        let mut lines = Lines::new(head);
        let response = Response::read(&mut lines).map_err(|_| INVALID)?;
        if lines.read() == head.len() { Ok(response) } else { Err(INVALID) }
    }

    fn read(lines: &mut Lines<'a>) -> Result<Response<'a>, LineFault> {
        let is_http10 = lines.is_http10()?;
        let (status, reason) = lines.status()?;
        let reason = if reason.is_ascii() { reason } else { b"" };
        let fields = Fields::read(lines)?;
        Ok(Response { status, reason, is_http10, fields })
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
        assert_eq!((response.status, response.reason, response.is_http10), (404, &b"Not Here"[..], true));
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

        #[test]
        fn another_parser_understands_the_same(
            line in "HTTP/1.[0-2] {1,2}[0-9]{2,4}( [ -~\t\u{80}-\u{ff}]{0,9})?(\r\n|\n|\r)",
            fields in proptest::collection::vec("[A-Z_a-z -]{0,9}[:;][ -~\t\r\u{80}-\u{ff}]{0,20}(\r\n|\n|\r\n )", 0..5),
            end in "(\r\n|\n|\r)",
        ) {
            let text = format!("{line}{}{end}", fields.concat());
            let mut lines = [httparse::EMPTY_HEADER; 16];
            let mut other = httparse::Response::new(&mut lines);
            let status = other.parse(text.as_bytes());
            if let Ok(response) = Response::parse(text.as_bytes()) {
                prop_assert_eq!(status, Ok(httparse::Status::Complete(text.len())));
                prop_assert_eq!((other.code, other.reason.map(str::as_bytes)), (Some(response.status), Some(response.reason)));
                let theirs = other.headers.iter().map(|line| (line.name.as_bytes(), line.value));
                prop_assert!(theirs.eq(response.fields.iter().map(|field| (field.name, field.value))));
            } else if status == Ok(httparse::Status::Complete(text.len())) {
                let bare = text.replace("\r\n", "").contains('\n');
                prop_assert!(bare || other.code < Some(100), "{:?}", text);
            }
        }
    }
}
