//! The field lines of one head, and what they say together.

use super::Malformed;
use super::field::{Field, Kind};
use super::head::FIELDS_MAX;
use super::lines::{LineFault, Lines};

/// All field lines of a head, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    list: Vec<Field<'a>>,
    /// Options of `Connection` (RFC 9110 §7.6.1).
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Whether `Connection` names other fields.
    nominates: bool,
    has_alias: bool,
    host: Once<'a>,
    content_length: Once<'a>,
    transfer_encoding: Once<'a>,
    trace_parent: Once<'a>,
}

/// Fields of a head for which there is room at once.
const USUAL_FIELDS: usize = 16;

/// A field that may be there once.
#[derive(Clone, Copy, Debug, Default)]
enum Once<'a> {
    #[default]
    Never,
    One(&'a [u8]),
    More,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = if matches!(self, Once::Never) { Once::One(value) } else { Once::More };
    }

    fn get(self, twice: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        match self {
            Once::Never => Ok(None),
            Once::One(value) => Ok(Some(value)),
            Once::More => Err(Malformed(twice)),
        }
    }
}

impl<'a> Fields<'a> {
    /// Takes note of field lines.
    pub(crate) fn of(lines: impl Iterator<Item = (&'a str, &'a [u8])>) -> Fields<'a> {
        let mut fields = Fields { list: Vec::with_capacity(lines.size_hint().0.min(FIELDS_MAX)), ..Fields::default() };
        for (name, value) in lines {
            fields.add(Field::new(name.as_bytes(), value));
        }
        fields
    }

    /// Reads all field lines up to the empty one, that included.
    ///
    /// # Errors
    ///
    /// If a line is none, or there are more than there may be.
    #[inline(never)]
    pub(super) fn read(lines: &mut Lines<'a>) -> Result<Fields<'a>, LineFault> {
        let mut fields = Fields { list: Vec::with_capacity(USUAL_FIELDS), ..Fields::default() };
        while let Some(field) = lines.field()? {
            if fields.list.len() >= FIELDS_MAX {
                return Err(LineFault::Many);
            }
            fields.add(field);
        }
        Ok(fields)
    }

    #[inline(always)]
    fn add(&mut self, field: Field<'a>) {
        match field.kind {
            Kind::Host => self.host.add(field.value),
            Kind::ContentLength => self.content_length.add(field.value),
            Kind::TransferEncoding => self.transfer_encoding.add(field.value),
            Kind::TraceParent => self.trace_parent.add(field.value),
            Kind::Connection => self.add_options(field.value),
            Kind::Alias => self.has_alias = true,
            _ => {}
        }
        self.list.push(field);
    }

    fn add_options(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            // What most have, and nothing besides.
            self.keep_alive = true;
            return;
        }
        for option in items(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates = true;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Field<'a>> {
        self.list.iter()
    }

    /// How many field lines there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The fields of one kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().filter(move |field| field.kind == kind).map(|field| field.value)
    }

    /// The bytes of all names and values.
    pub(crate) fn bytes(&self) -> usize {
        self.list.iter().map(|field| field.name.len() + field.value.len()).sum()
    }

    /// The value of `Host`, if it is there.
    ///
    /// # Errors
    ///
    /// If it is there more than once.
    pub(crate) fn host(&self) -> Result<Option<&'a [u8]>, Malformed> {
        self.host.get("there is more than one Host field")
    }

    /// The value of `traceparent`, if it is there once.
    pub(crate) fn trace_parent(&self) -> Option<&'a [u8]> {
        self.trace_parent.get("").ok().flatten()
    }

    /// The value of `Content-Length` (RFC 9110 §8.6).
    ///
    /// # Errors
    ///
    /// If it is there more than once or is anything but digits.
    pub(crate) fn content_length(&self) -> Result<Option<u64>, Malformed> {
        let Some(value) = self.content_length.get("there is more than one Content-Length")? else { return Ok(None) };
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Malformed("the Content-Length is no number"));
        }
        let length =
            value.iter().try_fold(0_u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        length.map(Some).ok_or(Malformed("the Content-Length is too large"))
    }

    /// Whether the body is in the chunked coding.
    ///
    /// # Errors
    ///
    /// If there is any other coding, more than one field, or the sender speaks HTTP/1.0.
    pub(crate) fn is_chunked(&self, is_http10: bool) -> Result<bool, Malformed> {
        match self.transfer_encoding.get("there is more than one Transfer-Encoding")? {
            None => Ok(false),
            // RFC 9112 §6.1: from a sender of 1.0 the framing is to be taken for faulty.
            Some(_) if is_http10 => Err(Malformed("HTTP/1.0 has no Transfer-Encoding")),
            Some(value) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
            Some(_) => Err(Malformed("the only Transfer-Encoding supported is chunked")),
        }
    }

    /// Whether the sender wants to use the connection again after this message.
    pub(crate) fn keeps(&self, is_http10: bool) -> bool {
        !self.close && (!is_http10 || self.keep_alive)
    }

    /// Whether `Connection` says that there is an `Upgrade`.
    pub(crate) fn names_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Whether a name is spelled so that another reader may take it for one that matters to proxies.
    pub(crate) fn has_alias(&self) -> bool {
        self.has_alias
    }

    /// Whether `Connection` names this field, which then ends here.
    pub(crate) fn is_nominated(&self, name: &[u8]) -> bool {
        self.nominates && self.of_kind(Kind::Connection).flat_map(items).any(|item| item.eq_ignore_ascii_case(name))
    }

    /// Whether a list field holds a token, parameters aside.
    pub(crate) fn lists(&self, kind: Kind, token: &str) -> bool {
        self.of_kind(kind).flat_map(items).any(|item| {
            let name = item.split(|byte| *byte == b';').next().unwrap_or_default();
            name.trim_ascii_end().eq_ignore_ascii_case(token.as_bytes())
        })
    }
}

/// The members of a comma-separated list (RFC 9110 §5.6.1), empty ones left out.
pub(crate) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Framing;
    use super::*;

    fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Fields<'a> {
        Fields::of(lines.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn framing_is_what_all_readers_share() {
        let framing = |lines: &[(&'static str, &'static str)]| Framing::of_request(&fields(lines), false);
        assert_eq!(framing(&[]), Ok(Framing::None));
        assert_eq!(framing(&[("Content-Length", "12")]), Ok(Framing::Length(12)));
        assert_eq!(framing(&[("Transfer-Encoding", "Chunked")]), Ok(Framing::Chunked));
        for length in ["", "+1", "-1", "0x1", "1 1", "1,1", "1, 1", "18446744073709551616", "\u{0661}"] {
            assert!(framing(&[("Content-Length", length)]).is_err(), "{length}");
        }
        for coding in
            ["", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked;q=1", "x-chunked", "identity"]
        {
            assert!(framing(&[("Transfer-Encoding", coding)]).is_err(), "{coding}");
        }
        assert!(framing(&[("Content-Length", "1"), ("content-length", "1")]).is_err());
        assert!(framing(&[("Content-Length", "1"), ("Transfer-Encoding", "chunked")]).is_err());
        assert!(framing(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]).is_err());
        assert!(Framing::of_request(&fields(&[("Transfer-Encoding", "chunked")]), true).is_err());
    }

    #[test]
    fn a_response_may_end_with_the_connection() {
        let framing = |status, to_head, lines: &[(&'static str, &'static str)]| {
            Framing::of_response(&fields(lines), false, status, to_head)
        };
        assert_eq!(framing(200, false, &[]), Ok(Framing::UntilClose));
        assert_eq!(framing(200, true, &[("Content-Length", "5")]), Ok(Framing::None));
        assert_eq!(framing(304, false, &[("Content-Length", "5")]), Ok(Framing::None));
        assert_eq!(framing(204, false, &[]), Ok(Framing::None));
        assert_eq!(framing(200, false, &[("Content-Length", "5")]), Ok(Framing::Length(5)));
        assert!(framing(200, false, &[("Content-Length", "5"), ("Content-Length", "6")]).is_err());
    }

    #[test]
    fn connection_options() {
        let of = |value: &'static str| fields(&[("Connection", value)]);
        assert!(of("keep-alive").keeps(true) && of("keep-alive").keeps(false));
        assert!(!of("close").keeps(false) && !of("x").keeps(true) && of("x").keeps(false));
        assert!(!of("Close, keep-alive").keeps(false));
        assert!(of("keep-alive, Upgrade").names_upgrade());
        assert!(of("close, X-Private ,").is_nominated(b"x-private"));
        assert!(!of("close").is_nominated(b"x-private"));
        assert!(fields(&[("Te", "gzip, trailers ;q=1")]).lists(Kind::Te, "trailers"));
    }
}
