//! Where a head ends, and how one is written.

use bytes::{BufMut, BytesMut};
use memchr::memchr;

use super::Malformed;

/// Most field lines of one head. Further ones make it too large.
pub(crate) const FIELDS_MAX: usize = 128;

/// Looks for the empty line that ends a head, going on where it stopped when more has come.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    /// Everything before this was looked at.
    seen: usize,
}

impl HeadEnd {
    /// As [`HeadEnd::find`], for a head that is parsed then: where it comes whole its lines are not looked at twice.
    pub(crate) fn find_parsed(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        // In pieces, each is looked at once.
        if self.seen == 0
            && let Some(end) = empty_line(bytes)
        {
            return Ok(Some(end));
        }
        self.find(bytes)
    }

    /// The length of the head at the front of `bytes`, its last line included, once it is complete.
    ///
    /// # Errors
    ///
    /// If a line ends with a bare LF: readers differ in whether that ends a line (RFC 9112 §2.2).
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while let Some(at) = memchr(b'\n', &bytes[self.seen..]) {
            let lf = self.seen + at;
            if lf == 0 || bytes[lf - 1] != b'\r' {
                return Err(Malformed("a line ends with LF alone"));
            }
            match bytes[lf + 1..] {
                [b'\r', b'\n', ..] => return Ok(Some(lf + 3)),
                [] | [b'\r'] => {
                    // To be looked at again with what follows.
                    self.seen = lf;
                    return Ok(None);
                }
                _ => self.seen = lf + 1,
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// The end of the first empty line behind another one.
fn empty_line(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    // Sixteen at once: where a line begins with CR.
    while let (Some(these), Some(next)) = (chunk(bytes, from), chunk(bytes, from + 1)) {
        if these.iter().zip(next).fold(false, |found, (this, next)| found | ((*this == b'\n') & (*next == b'\r'))) {
            break;
        }
        from += these.len();
    }
    let from = from.saturating_sub(1);
    bytes[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4)
}

fn chunk(bytes: &[u8], from: usize) -> Option<&[u8; 16]> {
    bytes.get(from..)?.first_chunk()
}

/// Writes one field line.
pub(crate) fn write_field(out: &mut BytesMut, name: impl AsRef<[u8]>, value: &[u8]) {
    let name = name.as_ref();
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes one field line with a number.
pub(crate) fn write_number(out: &mut BytesMut, name: &str, number: u64) {
    write_field(out, name, itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_line_ends_it() {
        let find = |text: &str| HeadEnd::default().find(text.as_bytes());
        assert_eq!(find("GET / HTTP/1.1\r\n\r\nrest"), Ok(Some(18)));
        assert_eq!(find("GET / HTTP/1.1\r\nA: b\r\n\r\n"), Ok(Some(24)));
        assert_eq!(find("GET / HTTP/1.1\r\nA: b\r\n\r"), Ok(None));
        assert!(find("GET / HTTP/1.1\n\n").is_err());
        assert!(find("GET / HTTP/1.1\r\nA: b\n\r\n").is_err());
        assert!(find("GET / HTTP/1.1\r\nA: b\r\n\n").is_err());
        assert!(find("\n").is_err());
    }

    proptest! {
        #[test]
        fn a_whole_head_ends_at_its_first_empty_line(text in "[a\r\n]{0,40}(a{0,20}\r\n){0,4}\r\n[a\r\n]{0,20}") {
            prop_assert_eq!(empty_line(text.as_bytes()), text.find("\r\n\r\n").map(|at| at + 4));
        }

        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(0usize..40, 0..6)) {
            let text = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\nbody";
            let mut end = HeadEnd::default();
            let mut found = None;
            let mut lengths: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            lengths.sort_unstable();
            for length in lengths.into_iter().chain([text.len()]) {
                found = found.or(end.find(&text[..length]).unwrap());
            }
            prop_assert_eq!(found, Some(35));
        }
    }
}
