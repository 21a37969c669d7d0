//! How long a body is (RFC 9112 §6.3), where there is no doubt.

use super::{Fields, Malformed};

/// What delimits a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// So many bytes; none is possible.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// The end of the connection; in responses only.
    UntilClose,
}

impl Framing {
    /// The framing of a request.
    ///
    /// # Errors
    ///
    /// If it is not given exactly once in a form that all readers share: a length and a coding together, two lengths, a
    /// length that is no number, a coding other than `chunked`, a coding in HTTP/1.0.
    pub(crate) fn of_request(fields: &Fields<'_>, is_http10: bool) -> Result<Framing, Malformed> {
        match (fields.content_length()?, fields.is_chunked(is_http10)?) {
            (Some(_), true) => Err(Malformed("Content-Length and Transfer-Encoding contradict each other")),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, true) => Ok(Framing::Chunked),
            (None, false) => Ok(Framing::None),
        }
    }

    /// The framing of a response with this status to a request that was, or was not, `HEAD`.
    ///
    /// # Errors
    ///
    /// As for requests.
    pub(crate) fn of_response(
        fields: &Fields<'_>,
        is_http10: bool,
        status: u16,
        to_head: bool,
    ) -> Result<Framing, Malformed> {
        if to_head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Framing::None);
        }
        match Framing::of_request(fields, is_http10)? {
            Framing::None => Ok(Framing::UntilClose),
            framing => Ok(framing),
        }
    }

    /// Whether nothing follows the head.
    pub(crate) fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }
}
