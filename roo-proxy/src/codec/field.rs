//! Field lines and what a proxy has to do with each.

use bytes::BytesMut;

use super::head::write_field;

/// One field line: a name in any case, a value without the blanks around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// A token.
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) kind: Kind,
    /// The line as it came, if that is how we would write it.
    line: Option<&'a [u8]>,
}

/// The part that a field has in forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// For the other end: passed on as it is, unless `Connection` names it.
    EndToEnd,
    Accept,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Host,
    Te,
    TraceParent,
    TraceState,
    TransferEncoding,
    Upgrade,
    /// For this hop only and of no interest: `Keep-Alive`, `HTTP2-Settings`, `Proxy-*`, and `Proxy`, which CGI programs
    /// would take for a setting.
    Hop,
    XForwardedFor,
    XRequestId,
    /// Another one that tells of clients and proxies: believed of trusted peers only.
    Claim(Claim),
    /// A claim spelled with `_`, which many programs read as `-`.
    Alias,
}

/// A field by which a proxy tells an upstream of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    /// Set by us alone, whoever the peer is.
    XOriginHost,
    /// The certificate that a client has shown to a proxy, or those above it (RFC 9440).
    ClientCert,
    /// `Forwarded`, and whatever else begins with `X-Forwarded-`.
    Other,
}

impl<'a> Field<'a> {
    pub(crate) fn new(name: &'a [u8], value: &'a [u8]) -> Field<'a> {
        Field::read(name, value, None)
    }

    /// A field that came as `line`, if that is how we would write it.
    #[inline(always)]
    pub(super) fn read(name: &'a [u8], value: &'a [u8], line: Option<&'a [u8]>) -> Field<'a> {
        Field { name, value, kind: Kind::of(name), line }
    }

    /// Appends the line.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self.line {
            Some(line) => out.extend_from_slice(line),
            None => write_field(out, self.name, self.value),
        }
    }
}

impl Kind {
    /// The kind of a name, in any case. Length and first letters tell nearly all names apart, at once.
    #[inline(always)]
    fn of(name: &[u8]) -> Kind {
        let rest_is = |rest: &[u8]| name[8..].eq_ignore_ascii_case(rest);
        match (name.len(), letters(name)) {
            (2, TE) => Kind::Te,
            (4, HOST) => Kind::Host,
            (4, DATE) => Kind::Date,
            (5, PROXY) => Kind::Hop,
            (6, ACCEPT) => Kind::Accept,
            (6, COOKIE) => Kind::Cookie,
            (6, EXPECT) => Kind::Expect,
            (7, UPGRADE) => Kind::Upgrade,
            (10, CONNECTION) if rest_is(b"on") => Kind::Connection,
            (10, KEEP_ALIVE) if rest_is(b"ve") => Kind::Hop,
            (10, TRACE_STATE) if rest_is(b"te") => Kind::TraceState,
            (11, TRACE_PARENT) if rest_is(b"ent") => Kind::TraceParent,
            (14, CONTENT) if rest_is(b"length") => Kind::ContentLength,
            (14, HTTP2_SETTINGS) if rest_is(b"ttings") => Kind::Hop,
            (17, TRANSFER_ENCODING) if rest_is(b"-encoding") => Kind::TransferEncoding,
            // Nobody's framing may be read differently behind us either.
            (14, CONTENT_ALIAS) if rest_is(b"length") => Kind::Alias,
            (17, TRANSFER_ENCODING) if rest_is(b"_encoding") => Kind::Alias,
            (6.., word) if word << 16 == PROXY_ANY << 16 => Kind::Hop,
            (9.., word) if matches!(word as u8, b'x' | b'f') => Kind::of_claim(name),
            (11.., CLIENT_CERT | CLIENT_CERT_ALIAS) => Kind::of_claim(name),
            _ => Kind::EndToEnd,
        }
    }

    #[cold]
    fn of_claim(name: &[u8]) -> Kind {
        let mut text = [0; CLAIM_BYTES_MAX];
        let text = &mut text[..name.len().min(CLAIM_BYTES_MAX)];
        for (to, from) in text.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { from.to_ascii_lowercase() };
        }
        let whole = name.len() <= CLAIM_BYTES_MAX;
        let kind = match &*text {
            b"x-forwarded-for" if whole => Kind::XForwardedFor,
            b"x-request-id" if whole => Kind::XRequestId,
            b"x-forwarded-host" if whole => Kind::Claim(Claim::XForwardedHost),
            b"x-forwarded-port" if whole => Kind::Claim(Claim::XForwardedPort),
            b"x-forwarded-proto" if whole => Kind::Claim(Claim::XForwardedProto),
            b"x-real-ip" if whole => Kind::Claim(Claim::XRealIp),
            b"x-origin-host" if whole => Kind::Claim(Claim::XOriginHost),
            b"client-cert" | b"client-cert-chain" if whole => Kind::Claim(Claim::ClientCert),
            b"forwarded" if whole => Kind::Claim(Claim::Other),
            other if other.starts_with(b"x-forwarded-") => Kind::Claim(Claim::Other),
            _ => return Kind::EndToEnd,
        };
        if name.contains(&b'_') { Kind::Alias } else { kind }
    }
}

const TE: u64 = letters(b"te");
const HOST: u64 = letters(b"host");
const DATE: u64 = letters(b"date");
const PROXY: u64 = letters(b"proxy");
const ACCEPT: u64 = letters(b"accept");
const COOKIE: u64 = letters(b"cookie");
const EXPECT: u64 = letters(b"expect");
const UPGRADE: u64 = letters(b"upgrade");
const CONNECTION: u64 = letters(b"connecti");
const KEEP_ALIVE: u64 = letters(b"keep-ali");
const CONTENT: u64 = letters(b"content-");
const HTTP2_SETTINGS: u64 = letters(b"http2-se");
const TRANSFER_ENCODING: u64 = letters(b"transfer");
const CONTENT_ALIAS: u64 = letters(b"content_");
const TRACE_STATE: u64 = letters(b"tracesta");
const TRACE_PARENT: u64 = letters(b"tracepar");
const CLIENT_CERT: u64 = letters(b"client-c");
const CLIENT_CERT_ALIAS: u64 = letters(b"client_c");
const PROXY_ANY: u64 = letters(b"proxy-");

/// The first eight bytes of a token as a number, letters as small ones. Among tokens no other sign becomes a letter,
/// a digit or a hyphen by this.
#[inline]
const fn letters(name: &[u8]) -> u64 {
    if let Some(word) = name.first_chunk::<8>() {
        return u64::from_le_bytes(*word) | SMALL;
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        // They overlap where there are fewer than eight, and are the same there.
        let (first, last) = (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64);
        return first | last << (8 * (name.len() - 4)) | SMALL;
    }
    let (mut word, mut index) = ([0; 8], 0);
    while index < name.len() {
        word[index] = name[index];
        index += 1;
    }
    u64::from_le_bytes(word) | SMALL
}

/// The bit that makes a letter small.
const SMALL: u64 = u64::MAX / 0xff * 0x20;

/// No claim that is told apart is longer.
const CLAIM_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, kind) in [
            ("HOST", Kind::Host),
            ("content-Length", Kind::ContentLength),
            ("Transfer-Encoding", Kind::TransferEncoding),
            ("TE", Kind::Te),
            ("Proxy", Kind::Hop),
            ("Proxy-Authorization", Kind::Hop),
            ("proxy-", Kind::Hop),
            ("Keep-Alive", Kind::Hop),
            ("X-Forwarded-For", Kind::XForwardedFor),
            ("X-REQUEST-ID", Kind::XRequestId),
            ("x-forwarded-proto", Kind::Claim(Claim::XForwardedProto)),
            ("X-Forwarded-Whatever-It-Be-Called", Kind::Claim(Claim::Other)),
            ("Forwarded", Kind::Claim(Claim::Other)),
            ("Client-Cert", Kind::Claim(Claim::ClientCert)),
            ("CLIENT-CERT-CHAIN", Kind::Claim(Claim::ClientCert)),
        ] {
            assert_eq!(Kind::of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn aliases_of_claims_and_of_framing_are_told_apart() {
        for name in [
            "X_Forwarded_For",
            "client_cert",
            "Client-Cert_Chain",
            "x-real_ip",
            "x_forwarded-anything_at_all",
            "Content_Length",
            "transfer_encoding",
        ] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::Alias, "{name}");
        }
    }

    #[test]
    fn everything_else_is_for_the_other_end() {
        for name in [
            "",
            "x",
            "X-Own",
            "Forwarded-By",
            "proxies",
            "hosts",
            "x-forwarded",
            "x_own",
            "client-certs",
            "Client-Charset",
            "Content-Lengths",
            "xyz_abcdefgh",
        ] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::EndToEnd, "{name}");
        }
    }
}
