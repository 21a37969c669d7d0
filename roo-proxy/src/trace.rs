//! The trace that a request is part of (W3C Trace Context, <https://www.w3.org/TR/trace-context/>).
//!
//! A context that comes in is kept from everybody: it says nothing of who asks and gives access to nothing, and a trace
//! that begins in a browser or in another company is what the standard is for. Our own ids stay our own all the same.

use bytes::BytesMut;

use crate::codec::Fields;
use crate::hexadecimal;
use crate::request_id::RequestId;

/// The name of the field.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// What becomes of the trace context of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceContext {
    /// It is passed on as it comes, if it comes.
    AsIs,
    /// The proxy takes part in the trace that a request brings, and begins one for a request without.
    TakePart {
        /// Of a million traces that begin here, so many are marked as sampled. Services that let their caller decide
        /// record these, and none of the others.
        sampled: u32,
    },
}

impl Default for TraceContext {
    fn default() -> TraceContext {
        TraceContext::TakePart { sampled: MILLION }
    }
}

const MILLION: u32 = 1_000_000;

/// The part of a trace that one request is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    trace: [u8; 32],
    /// Our part, the parent of the service's.
    span: [u8; 16],
    /// The client's part, if it began the trace.
    parent: Option<[u8; 16]>,
    flags: u8,
}

/// The bits of the flags that are known: sampled, random.
const SAMPLED: u8 = 1;
const KNOWN_FLAGS: u8 = 3;

/// The line of a field of version 00, to be filled in.
const LINE: &[u8; 70] = b"traceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n";

/// The length of a field of version 00.
const BYTES: usize = 55;

impl Trace {
    /// The trace that the fields tell of, or a new one if there is none or it is not valid. A new one has the number of
    /// the request, if that is ours.
    pub(crate) fn of(fields: &Fields<'_>, id: &RequestId, sampled: u32) -> Trace {
        // Nothing but zeros is no id.
        let span = hexadecimal::sixteen(fastrand::u64(..) | 1);
        let given = fields.trace_parent().filter(|_| !fields.is_nominated(TRACEPARENT.as_bytes())).and_then(parse);
        if let Some(Given { trace, parent, flags }) = given {
            return Trace { trace, span, parent: Some(parent), flags: flags & KNOWN_FLAGS };
        }
        let trace = match id {
            RequestId::Ours(digits) => *digits,
            RequestId::Given(_) => RequestId::digits(),
        };
        let is_sampled = sampled >= MILLION || fastrand::u32(..MILLION) < sampled;
        Trace { trace, span, parent: None, flags: if is_sampled { SAMPLED } else { 0 } }
    }

    /// Whether the client's part is known, so that what its vendors say in `tracestate` holds.
    pub(crate) fn goes_on(&self) -> bool {
        self.parent.is_some()
    }

    /// Appends the field.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let mut line = *LINE;
        line[16..48].copy_from_slice(&self.trace);
        line[49..65].copy_from_slice(&self.span);
        line[66..68].copy_from_slice(&hexadecimal::two(self.flags));
        out.extend_from_slice(&line);
    }

    pub(crate) fn trace(&self) -> &[u8] {
        &self.trace
    }

    pub(crate) fn span(&self) -> &[u8] {
        &self.span
    }

    pub(crate) fn parent(&self) -> Option<&[u8]> {
        self.parent.as_ref().map(<[u8; 16]>::as_slice)
    }
}

/// What a client tells.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    trace: [u8; 32],
    parent: [u8; 16],
    flags: u8,
}

/// The parts of a field (§3.2). Of a version that is not known yet the parts of version 00 are read, if they are there.
fn parse(value: &[u8]) -> Option<Given> {
    let version = number(value.get(..2)?)?;
    let is_long = value.len() > BYTES;
    if version == 0xff || (is_long && (version == 0 || value[BYTES] != b'-')) {
        return None;
    }
    let dash = |at: usize| value.get(at) == Some(&b'-');
    let trace: [u8; 32] = digits(value.get(3..35)?)?;
    let parent: [u8; 16] = digits(value.get(36..52)?)?;
    let flags = number(value.get(53..BYTES)?)?;
    (dash(2) && dash(35) && dash(52)).then_some(Given { trace, parent, flags })
}

/// Digits in lower case that are not all zero.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let valid = text.iter().all(|byte| is_digit(*byte)) && text.iter().any(|byte| *byte != b'0');
    valid.then(|| text.try_into().ok())?
}

fn number(text: &[u8]) -> Option<u8> {
    let value = |byte: u8| is_digit(byte).then(|| char::from(byte).to_digit(16)).flatten();
    match text {
        [high, low] => u8::try_from(value(*high)? * 16 + value(*low)?).ok(),
        _ => None,
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn of(value: &str, sampled: u32) -> (RequestId, Trace, String) {
        let fields = Fields::of([("Traceparent", value.as_bytes())].into_iter());
        let id = RequestId::new();
        let trace = Trace::of(&fields, &id, sampled);
        let mut out = BytesMut::new();
        trace.write(&mut out);
        (id, trace, String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_trace_goes_on_with_a_part_of_its_own() {
        let (_, trace, written) = of(&format!("00-{TRACE}-{PARENT}-01"), 0);
        assert_eq!(written.len(), "traceparent: \r\n".len() + BYTES);
        assert!(written.starts_with(&format!("traceparent: 00-{TRACE}-")) && written.ends_with("-01\r\n"), "{written}");
        assert!(!written.contains(PARENT) && trace.goes_on() && trace.parent() == Some(PARENT.as_bytes()));
        // Of flags and of versions that nobody knows yet, what is known holds.
        assert!(of(&format!("00-{TRACE}-{PARENT}-fe"), 0).2.ends_with("-02\r\n"));
        let later = of(&format!("cc-{TRACE}-{PARENT}-01-what-is-this"), 0);
        assert!(later.1.goes_on() && later.2.starts_with(&format!("traceparent: 00-{TRACE}-")));
    }

    #[test]
    fn what_is_no_context_is_begun_anew() {
        let (zeros, half) = ("0".repeat(32), "0".repeat(16));
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-x"),
            format!("01-{TRACE}-{PARENT}-01x"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{TRACE}-{PARENT}-0g"),
            format!("00-{TRACE}-{PARENT}"),
            format!("0-{TRACE}-{PARENT}-01"),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-{half}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00_{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}_{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}_01"),
            format!("00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01"),
        ] {
            let (id, trace, written) = of(&bad, MILLION);
            assert!(!trace.goes_on(), "{bad}");
            assert!(written.starts_with(&format!("traceparent: 00-{id}-")) && written.ends_with("-01\r\n"), "{bad}");
        }
        assert!(of("", 0).2.ends_with("-00\r\n"));
        let line = format!("00-{TRACE}-{PARENT}-01");
        let twice = Fields::of([("traceparent", line.as_bytes()); 2].into_iter());
        assert!(!Trace::of(&twice, &RequestId::new(), 0).goes_on());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_valid_context(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let fields = Fields::of([("traceparent", &bytes[..])].into_iter());
            let mut out = BytesMut::new();
            Trace::of(&fields, &RequestId::new(), 500_000).write(&mut out);
            prop_assert!(parse(&out[13..13 + BYTES]).is_some());
        }

        #[test]
        fn what_is_valid_is_kept(trace in "[0-9a-f]{31}[1-9a-f]", parent in "[1-9a-f][0-9a-f]{15}", flags in any::<u8>()) {
            let given = parse(format!("00-{trace}-{parent}-{flags:02x}").as_bytes());
            let (trace, parent) = (trace.as_bytes().try_into().unwrap(), parent.as_bytes().try_into().unwrap());
            prop_assert_eq!(given, Some(Given { trace, parent, flags }));
        }

        #[test]
        fn one_byte_wrong_is_all_wrong_or_another(at in 0usize..BYTES, byte in any::<u8>()) {
            let mut value = format!("00-{TRACE}-{PARENT}-01").into_bytes();
            value[at] = byte;
            if let Some(given) = parse(&value) {
                prop_assert!(is_digit(byte) || byte == b'-', "{} {:?}", at, given);
            }
        }
    }
}
