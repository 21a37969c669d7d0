//! The id by which a request is known to client, upstream and logs.

use std::fmt;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};

use crate::codec::{Fields, Kind, write_field};
use crate::hexadecimal;

/// The name of the field that every request and every response carries.
const X_REQUEST_ID: &str = "x-request-id";

/// The name, as HTTP/2 has it.
pub(crate) const NAME: HeaderName = HeaderName::from_static(X_REQUEST_ID);

/// Letters, digits and a few signs: safe to repeat in text, HTML and JSON without escaping.
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// 32 hexadecimal digits.
    Ours([u8; DIGITS]),
    Given(Box<str>),
}

const DIGITS: usize = 32;

/// The line of an id of ours, to be filled in.
const OURS: &[u8; 48] = b"x-request-id: 00000000000000000000000000000000\r\n";

impl RequestId {
    /// The client's id if the client is trusted and the id sane, a new one otherwise.
    pub(crate) fn of(fields: &Fields<'_>, trusted: bool) -> RequestId {
        let given = trusted.then(|| fields.of_kind(Kind::XRequestId).next()).flatten();
        match given.filter(|id| is_sane(id)).map(std::str::from_utf8) {
            Some(Ok(id)) => RequestId::Given(id.into()),
            _ => RequestId::new(),
        }
    }

    /// A random one.
    pub(crate) fn new() -> RequestId {
        RequestId::Ours(RequestId::digits())
    }

    /// Random digits.
    pub(crate) fn digits() -> [u8; DIGITS] {
        let mut digits = [0; DIGITS];
        digits[..16].copy_from_slice(&hexadecimal::sixteen(fastrand::u64(..)));
        digits[16..].copy_from_slice(&hexadecimal::sixteen(fastrand::u64(..)));
        digits
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Ours(digits) => digits,
            RequestId::Given(id) => id.as_bytes(),
        }
    }

    /// Appends the field line.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            RequestId::Ours(digits) => {
                let mut line = *OURS;
                line[14..46].copy_from_slice(digits);
                out.extend_from_slice(&line);
            }
            RequestId::Given(id) => write_field(out, X_REQUEST_ID, id.as_bytes()),
        }
    }

    /// As a field of HTTP/2, whose tables of what is likely to come again it is kept out of.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.as_str()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            RequestId::Ours(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            RequestId::Given(id) => id,
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_sane(id: &[u8]) -> bool {
    !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte))
}

const ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_only_from_the_trusted_and_if_sane() {
        let with = |id: &str, trusted| {
            let fields = Fields::of([("X-Request-Id", id.as_bytes())].into_iter());
            RequestId::of(&fields, trusted).to_string()
        };
        assert_eq!(with("abc-1", true), "abc-1");
        assert_ne!(with("abc-1", false), "abc-1");
        assert_ne!(with("<script>", true), "<script>");
        assert_ne!(with(&"a".repeat(129), true), "a".repeat(129));
        assert_eq!(with("abc-1", false).len(), 32);
        assert_ne!(RequestId::new().as_str(), RequestId::new().as_str());
    }

    #[test]
    fn its_line_is_a_field() {
        for id in [RequestId::new(), RequestId::Given("abc-1".into())] {
            let mut line = BytesMut::new();
            id.write(&mut line);
            assert_eq!(line, format!("x-request-id: {id}\r\n"));
        }
    }
}
