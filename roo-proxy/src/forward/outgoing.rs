//! The head of a request as its upstream shall see it: never the client's own word for who asks.

use bytes::{BufMut, BytesMut};
use http::Version;
use tokio::time::Instant;

use super::peer::Peer;
use crate::codec::{Claim, Framing, Kind, Request, items, write_field, write_number};
use crate::request_id::RequestId;
use crate::target::Target;
use crate::trace::Trace;
use crate::upstream::Upstream;

/// A request on its way to an upstream.
pub(crate) struct Outgoing<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) target: &'a Target,
    pub(crate) id: &'a RequestId,
    pub(crate) peer: &'a Peer,
    /// The protocol that the client wants to change to.
    pub(crate) upgrade: Option<&'a [u8]>,
    /// Our part of the trace, unless the client's word for it is passed on.
    pub(crate) trace: Option<&'a Trace>,
    /// When the request came.
    pub(crate) began: Instant,
}

/// What the fields that passed by say together.
#[derive(Default)]
struct Passed {
    cookies: bool,
    /// The client takes trailers.
    trailers: bool,
    /// It waits for leave to send its body.
    expects: bool,
}

impl Outgoing<'_> {
    /// Appends the whole head for this upstream: the hop stripped, the client's claims dropped, ours added.
    pub(crate) fn write(&self, out: &mut BytesMut, upstream: &Upstream) {
        self.write_line(out, upstream);
        self.write_target(out);
        let passed = self.write_fields(out);
        match self.request.framing {
            // No digits but those that were understood.
            Framing::Length(length) => write_number(out, "content-length", length),
            Framing::Chunked => write_field(out, "transfer-encoding", b"chunked"),
            Framing::None | Framing::UntilClose => {}
        }
        self.write_identity(out, upstream);
        self.write_hop(out, &passed);
        out.put_slice(b"\r\n");
    }

    /// Whether the client waits for leave to send its body, and the upstream is told so (RFC 9110 §10.1.1).
    pub(crate) fn expects(&self) -> bool {
        let mut fields = self.request.fields.of_kind(Kind::Expect);
        self.request.version == Version::HTTP_11
            && !self.request.framing.is_empty()
            && fields.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    fn write_line(&self, out: &mut BytesMut, upstream: &Upstream) {
        let (request, prefix) = (self.request, upstream.destination.path.as_str());
        out.reserve(request.method.len() + prefix.len() + request.path.len() + 16);
        out.put_slice(request.method.as_bytes());
        out.put_u8(b' ');
        if request.path != "*" {
            out.put_slice(prefix.as_bytes());
        }
        out.put_slice(request.path.as_bytes());
        out.put_slice(b" HTTP/1.1\r\n");
    }

    fn write_fields(&self, out: &mut BytesMut) -> Passed {
        let fields = &self.request.fields;
        let mut passed = Passed::default();
        for field in fields.iter() {
            match field.kind {
                Kind::EndToEnd | Kind::Accept | Kind::Date if !fields.is_nominated(field.name) => {
                    field.write(out);
                }
                Kind::Cookie if !passed.cookies => {
                    passed.cookies = true;
                    if !fields.is_nominated(field.name) {
                        self.write_cookies(out);
                    }
                }
                Kind::Claim(claim) if self.peer.trusted && !self.peer.claims(claim) => {
                    field.write(out);
                }
                Kind::TraceParent if self.trace.is_none() && !fields.is_nominated(field.name) => {
                    write_field(out, field.name, field.value);
                }
                Kind::TraceState if self.trace.is_none_or(Trace::goes_on) && !fields.is_nominated(field.name) => {
                    write_field(out, field.name, field.value);
                }
                Kind::Te => passed.trailers |= fields.lists(Kind::Te, "trailers"),
                Kind::Expect => passed.expects |= field.value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        passed
    }

    /// HTTP/2 may split the field, HTTP/1 may not (RFC 9113 §8.2.3).
    fn write_cookies(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"cookie: ");
        for (index, crumb) in self.request.fields.of_kind(Kind::Cookie).enumerate() {
            if index > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(crumb);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whom it is for and from whom. What follows from the connection and its target alone is made once.
    fn write_target(&self, out: &mut BytesMut) {
        let (peer, target) = (self.peer, self.target);
        if peer.trusted {
            write_field(out, "host", &target.field);
            return self.write_claims(out);
        }
        out.extend_from_slice(target.lines(|target| {
            let mut lines = BytesMut::new();
            write_field(&mut lines, "host", &target.field);
            lines.extend_from_slice(peer.lines.as_bytes());
            write_field(&mut lines, "x-forwarded-host", &target.field);
            write_number(&mut lines, "x-forwarded-port", target.port_of(peer.scheme).into());
            lines.as_ref().into()
        }));
    }

    /// What is known of the client behind a trusted peer, whose word goes before.
    fn write_claims(&self, out: &mut BytesMut) {
        let (peer, fields) = (self.peer, &self.request.fields);
        let given = |claim| fields.of_kind(Kind::Claim(claim)).next().is_some();
        self.write_forwarded_for(out);
        if !given(Claim::XForwardedProto) {
            write_field(out, "x-forwarded-proto", peer.scheme.as_str().as_bytes());
        }
        if !given(Claim::XRealIp) {
            write_field(out, "x-real-ip", peer.address.as_bytes());
        }
        if !given(Claim::XForwardedHost) {
            write_field(out, "x-forwarded-host", &self.target.field);
        }
        if !given(Claim::XForwardedPort) {
            write_number(out, "x-forwarded-port", self.target.port_of(peer.scheme).into());
        }
    }

    /// What is ours alone to say.
    fn write_identity(&self, out: &mut BytesMut, upstream: &Upstream) {
        if let Some(line) = &self.peer.certificate {
            out.extend_from_slice(line.as_bytes());
        }
        out.extend_from_slice(upstream.origin_host.as_bytes());
        self.id.write(out);
        if let Some(trace) = self.trace {
            trace.write(out);
        }
    }

    /// Each proxy appends whom it heard from (the order of RFC 7239 §5.2).
    fn write_forwarded_for(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"x-forwarded-for: ");
        for before in self.request.fields.of_kind(Kind::XForwardedFor).filter(|before| !before.is_empty()) {
            out.extend_from_slice(before);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(self.peer.address.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// What is for the next hop alone.
    fn write_hop(&self, out: &mut BytesMut, passed: &Passed) {
        if passed.expects && self.request.version == Version::HTTP_11 && !self.request.framing.is_empty() {
            write_field(out, "expect", b"100-continue");
        }
        match self.upgrade {
            Some(protocol) => {
                write_field(out, "connection", b"upgrade");
                write_field(out, "upgrade", protocol);
            }
            // RFC 9110 §10.1.4: who sends TE names it in Connection.
            None if passed.trailers => {
                write_field(out, "te", b"trailers");
                write_field(out, "connection", b"te");
            }
            None => {}
        }
    }
}

/// The protocol that the client wants to change to, if it asks and may (RFC 9110 §7.8).
///
/// `h2c` is not among them: it would open a way around everything that is checked per request.
pub(crate) fn upgrade_wanted<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    if request.version != Version::HTTP_11 || !request.fields.names_upgrade() {
        return None;
    }
    let mut wanted = request.fields.of_kind(Kind::Upgrade);
    match (wanted.next(), wanted.next()) {
        (Some(protocol), None) if is_protocols(protocol) && !request.fields.lists(Kind::Upgrade, "h2c") => {
            Some(protocol)
        }
        _ => None,
    }
}

/// Whether these are names of protocols, with or without a version (RFC 9110 §7.8).
fn is_protocols(value: &[u8]) -> bool {
    let is_token = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    let is_protocol = |item: &[u8]| item.splitn(2, |byte| *byte == b'/').all(is_token);
    let mut protocols = items(value).peekable();
    protocols.peek().is_some() && protocols.all(is_protocol)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Fields;
    use crate::origin::Scheme;
    use crate::proxy_protocol::Ends;
    use crate::route::Route;
    use crate::target::RecentHost;
    use crate::upstream::Upstreams;

    /// The lines of a head that goes to `http://192.0.2.1:81/base`, in lower case and sorted.
    fn sent(version: Version, trusted: bool, lines: &[(&str, &str)], framing: Framing) -> Vec<String> {
        let fields = Fields::of(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
        let request =
            Request { method: "POST", version, scheme: None, authority: None, path: "/a?b".into(), fields, framing };
        let host = Request {
            fields: Fields::of([("host", &b"Shop.example:8443"[..])].into_iter()),
            path: "/".into(),
            ..request_of(version)
        };
        let target = Target::of(&host, &RecentHost::default()).unwrap();
        let id = RequestId::new();
        let outgoing = Outgoing {
            request: &request,
            target: &target,
            id: &id,
            peer: &Peer::new(
                1,
                Ends::new(([192, 0, 2, 7], 1).into(), ([192, 0, 2, 1], 443).into()),
                trusted,
                Scheme::Https,
            ),
            upgrade: upgrade_wanted(&request),
            trace: None,
            began: Instant::now(),
        };
        let route: Route = "http://192.0.2.1:81/base".parse().unwrap();
        let mut out = BytesMut::new();
        outgoing.write(&mut out, &Upstreams::new(&route).list[0]);
        let text = String::from_utf8(out.to_vec()).unwrap().replace(id.as_str(), "ID").to_lowercase();
        let mut lines: Vec<String> = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect();
        lines[1..].sort();
        lines
    }

    fn request_of(version: Version) -> Request<'static> {
        Request {
            method: "POST",
            version,
            scheme: None,
            authority: None,
            path: "/".into(),
            fields: Fields::default(),
            framing: Framing::None,
        }
    }

    /// As [`sent`] from a stranger over HTTP/1.1, without what is always there.
    fn passed(lines: &[(&str, &str)]) -> Vec<String> {
        let always =
            ["post /base/a?b http/1.1", "host: shop.example:8443", "x-request-id: id", "x-origin-host: 192.0.2.1:81"];
        let mut sent = sent(Version::HTTP_11, false, lines, Framing::None);
        sent.retain(|line| !always.contains(&line.as_str()) && !OURS.contains(&line.as_str()));
        sent
    }

    const OURS: [&str; 5] = [
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: shop.example:8443",
        "x-forwarded-port: 8443",
        "x-forwarded-proto: https",
        "x-real-ip: 192.0.2.7",
    ];

    #[test]
    fn the_hop_is_stripped() {
        let lines = [
            ("Connection", "close, X-Private"),
            ("connection", "x-other"),
            ("X-Private", "1"),
            ("x-other", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authorization", "secret"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy", "http://evil"),
            ("Upgrade", "h2c"),
            ("Accept", "*/*"),
        ];
        assert_eq!(passed(&lines), ["accept: */*"]);
    }

    #[test]
    fn the_frame_and_the_host_are_ours() {
        let lines =
            [("Connection", "content-length, host, x-real-ip"), ("Content-Length", "+3"), ("Host", "other.example")];
        let sent = sent(Version::HTTP_11, false, &lines, Framing::Length(3));
        assert_eq!(sent[0], "post /base/a?b http/1.1");
        for line in OURS.into_iter().chain(["content-length: 3", "host: shop.example:8443", "x-request-id: id"]) {
            assert!(sent.contains(&line.to_owned()), "{line}: {sent:?}");
        }
        assert!(!sent.iter().any(|line| line.contains("other.example")));
    }

    #[test]
    fn te_passes_trailers_alone() {
        assert_eq!(passed(&[("TE", "gzip, trailers;q=0.5"), ("Connection", "te")]), ["connection: te", "te: trailers"]);
        assert!(passed(&[("TE", "gzip")]).is_empty());
    }

    #[test]
    fn an_upgrade_is_named_anew() {
        let lines = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("TE", "trailers")];
        assert_eq!(passed(&lines), ["connection: upgrade", "upgrade: websocket"]);
    }

    #[test]
    fn only_a_clean_http11_upgrade_counts() {
        let wanted = |version, lines: &[(&'static str, &'static str)]| {
            let fields = Fields::of(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
            upgrade_wanted(&Request { fields, ..request_of(version) }).is_some()
        };
        let upgrade = ("Upgrade", "websocket");
        assert!(wanted(Version::HTTP_11, &[("Connection", "keep-alive, Upgrade"), upgrade]));
        assert!(!wanted(Version::HTTP_10, &[("Connection", "upgrade"), upgrade]));
        assert!(!wanted(Version::HTTP_11, &[("Connection", "keep-alive"), upgrade]));
        assert!(!wanted(Version::HTTP_11, &[("Connection", "upgrade"), ("Upgrade", "h2c")]));
        assert!(!wanted(Version::HTTP_11, &[("Connection", "upgrade"), ("Upgrade", "websocket, H2C")]));
        assert!(!wanted(Version::HTTP_11, &[("Connection", "upgrade"), upgrade, upgrade]));
        assert!(!wanted(Version::HTTP_11, &[("Connection", "upgrade"), ("Upgrade", "web socket")]));
        assert!(wanted(Version::HTTP_11, &[("Connection", "upgrade"), ("Upgrade", "a/1, b")]));
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        assert_eq!(passed(&[("Cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]), ["cookie: a=1; b=2; c=3"]);
    }

    #[test]
    fn leave_to_send_a_body_is_the_upstreams_to_give() {
        let expects = |version, value: &'static str, framing| {
            sent(version, false, &[("Expect", value)], framing).contains(&"expect: 100-continue".to_owned())
        };
        assert!(expects(Version::HTTP_11, "100-Continue", Framing::Length(1)));
        assert!(!expects(Version::HTTP_11, "200-ok", Framing::Length(1)));
        assert!(!expects(Version::HTTP_11, "100-continue", Framing::None));
        assert!(!expects(Version::HTTP_10, "100-continue", Framing::Length(1)));
        assert!(!expects(Version::HTTP_2, "100-continue", Framing::Length(1)));
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_extended() {
        let lines = [
            ("X-Forwarded-For", "198.51.100.1"),
            ("X-Forwarded-For", "198.51.100.2"),
            ("X-Forwarded-Proto", "http"),
            ("X-Real-IP", "198.51.100.1"),
            ("X-Origin-Host", "evil"),
            ("Forwarded", "for=198.51.100.1"),
        ];
        let sent = sent(Version::HTTP_11, true, &lines, Framing::None);
        for line in [
            "x-forwarded-for: 198.51.100.1, 198.51.100.2, 192.0.2.7",
            "x-forwarded-proto: http",
            "x-forwarded-port: 8443",
            "x-real-ip: 198.51.100.1",
            "forwarded: for=198.51.100.1",
            "x-origin-host: 192.0.2.1:81",
        ] {
            assert_eq!(sent.iter().filter(|sent| *sent == line).count(), 1, "{line}: {sent:?}");
        }
        assert!(!sent.iter().any(|line| line.contains("evil") || line.ends_with("proto: https")), "{sent:?}");
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_claim_survives(
            name in "x-(forwarded-(for|proto|host|port|server)|real-ip|origin-host|request-id)|forwarded",
            upper in any::<u32>(),
        ) {
            let spelled = |(at, letter): (usize, char)| {
                if upper >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
            };
            let name: String = name.chars().enumerate().map(spelled).collect();
            prop_assert!(passed(&[(&name, "evil")]).is_empty());
        }

        #[test]
        fn whatever_connection_names_is_gone(
            names in proptest::collection::vec("[a-z]{1,8}(-[a-z]{1,8})?", 0..8),
            noise in "[ -~]{0,40}",
        ) {
            let connection = format!("{},{noise}", names.join(" , "));
            let mut lines: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
            lines.push(("connection", &connection));
            let passed = passed(&lines);
            prop_assert!(passed.iter().all(|line| line.starts_with("connection:") || line.starts_with("te:")), "{passed:?}");
        }
    }
}
