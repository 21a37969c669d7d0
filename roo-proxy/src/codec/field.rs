//! Field lines and what a proxy has to do with each.

/// One field line: a name in any case, a value without the blanks around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a [u8],
    pub(crate) kind: Kind,
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
    /// `Forwarded`, and whatever else begins with `X-Forwarded-`.
    Other,
}

impl<'a> Field<'a> {
    pub(crate) fn new(name: &'a str, value: &'a [u8]) -> Field<'a> {
        Field { name, value, kind: Kind::of(name) }
    }
}

impl Kind {
    /// The kind of a name, in any case.
    fn of(name: &str) -> Kind {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let first = name.as_bytes().first().map_or(0, |byte| byte | 0x20);
        match (first, name.len()) {
            (b'a', 6) if is("accept") => Kind::Accept,
            (b'c', 6) if is("cookie") => Kind::Cookie,
            (b'c', 10) if is("connection") => Kind::Connection,
            (b'c', 14) if is("content-length") => Kind::ContentLength,
            (b'd', 4) if is("date") => Kind::Date,
            (b'e', 6) if is("expect") => Kind::Expect,
            (b'h', 4) if is("host") => Kind::Host,
            (b'h', 14) if is("http2-settings") => Kind::Hop,
            (b'k', 10) if is("keep-alive") => Kind::Hop,
            (b'p', 5) if is("proxy") => Kind::Hop,
            (b'p', 6..) if name.as_bytes()[..6].eq_ignore_ascii_case(b"proxy-") => Kind::Hop,
            (b't', 2) if is("te") => Kind::Te,
            (b't', 10) if is("tracestate") => Kind::TraceState,
            (b't', 11) if is("traceparent") => Kind::TraceParent,
            (b't', 17) if is("transfer-encoding") => Kind::TransferEncoding,
            (b'u', 7) if is("upgrade") => Kind::Upgrade,
            (b'x' | b'f', 9..) => Kind::of_claim(name),
            // Nobody's framing may be read differently behind us either.
            (b'c', 14) if is("content_length") => Kind::Alias,
            (b't', 17) if is("transfer_encoding") => Kind::Alias,
            _ => Kind::EndToEnd,
        }
    }

    fn of_claim(name: &str) -> Kind {
        let mut text = [0; CLAIM_BYTES_MAX];
        let text = &mut text[..name.len().min(CLAIM_BYTES_MAX)];
        for (to, from) in text.iter_mut().zip(name.bytes()) {
            *to = if from == b'_' { b'-' } else { from.to_ascii_lowercase() };
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
            b"forwarded" if whole => Kind::Claim(Claim::Other),
            other if other.starts_with(b"x-forwarded-") => Kind::Claim(Claim::Other),
            _ => return Kind::EndToEnd,
        };
        if name.contains('_') { Kind::Alias } else { kind }
    }
}

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
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn aliases_of_claims_and_of_framing_are_told_apart() {
        for name in
            ["X_Forwarded_For", "x-real_ip", "x_forwarded-anything_at_all", "Content_Length", "transfer_encoding"]
        {
            assert_eq!(Kind::of(name), Kind::Alias, "{name}");
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
            "Content-Lengths",
            "xyz_abcdefgh",
        ] {
            assert_eq!(Kind::of(name), Kind::EndToEnd, "{name}");
        }
    }
}
