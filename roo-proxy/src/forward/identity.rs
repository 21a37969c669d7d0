//! The fields that tell an upstream who asks for what: never the client's own word for it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::origin::Scheme;
use crate::target::Target;

/// Carried by every request and every response.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The destination that the request was sent to; kept for upstreams that rely on it.
pub(crate) const X_ORIGIN_HOST: HeaderName = HeaderName::from_static("x-origin-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What is known about the client's side of a request.
pub(crate) struct Identity<'a> {
    pub(crate) peer: IpAddr,
    /// Whether the peer is a proxy whose own fields are believed.
    pub(crate) trusted: bool,
    pub(crate) scheme: Scheme,
    pub(crate) target: &'a Target,
    pub(crate) id: &'a HeaderValue,
}

/// Drops what the client claims, unless it is trusted, and sets what is known.
pub(crate) fn apply(headers: &mut HeaderMap, identity: &Identity<'_>) {
    drop_claims(headers, identity.trusted);
    let peer = address(identity.peer);
    let forwarded_for = match joined(headers, &X_FORWARDED_FOR) {
        // RFC 7239 §5.2 for the order: each proxy appends whom it heard from.
        Some(before) => appended(&before, &peer),
        None => peer.clone(),
    };
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    let port = identity.target.port.unwrap_or(identity.scheme.default_port());
    keep_or_set(headers, X_FORWARDED_PROTO, || HeaderValue::from_static(identity.scheme.as_str()));
    keep_or_set(headers, X_FORWARDED_HOST, || identity.target.field.clone());
    keep_or_set(headers, X_FORWARDED_PORT, || port.into());
    keep_or_set(headers, X_REAL_IP, || peer);
    headers.insert(X_REQUEST_ID, identity.id.clone());
}

/// The id of a request: the client's if it is trusted and sane, a new one otherwise.
pub(crate) fn request_id(headers: &HeaderMap, trusted: bool) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
        Some(id) if trusted && is_sane(id.as_bytes()) => id.clone(),
        _ => HeaderValue::from_str(&format!("{:032x}", fastrand::u128(..))).expect("hex digits are visible ASCII"),
    }
}

/// Safe to repeat in text, HTML and JSON without escaping.
fn is_sane(id: &[u8]) -> bool {
    !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte))
}

const ID_BYTES_MAX: usize = 128;

/// Removes every field that would pass for one of ours.
pub(super) fn drop_claims(headers: &mut HeaderMap, trusted: bool) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str(), trusted)).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Whether a field would pass for one of ours. Many upstreams read `_` and `-` as the same character,
/// so that an alias is never let through, whoever sends it.
fn is_claim(name: &str, trusted: bool) -> bool {
    if !name.starts_with(['x', 'f']) {
        return false;
    }
    let is_alias = name.contains('_');
    if trusted && !is_alias && name != X_ORIGIN_HOST {
        return false;
    }
    let dashed;
    let name = if is_alias {
        dashed = name.replace('_', "-");
        dashed.as_str()
    } else {
        name
    };
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "x-origin-host" | "x-request-id")
}

fn keep_or_set(headers: &mut HeaderMap, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
    headers.entry(name).or_insert_with(value);
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let joined = values.join(&b", "[..]);
    (!joined.is_empty()).then_some(joined)
}

fn appended(before: &[u8], peer: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(&[before, b", ", peer.as_bytes()].concat())
        .expect("valid values joined by valid characters are valid")
}

fn address(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("an address is visible ASCII")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn target(host: &str) -> Target {
        let request = http::Request::builder().header("host", host).body(()).unwrap();
        Target::of(&request).unwrap()
    }

    fn applied(fields: &[(&str, &str)], trusted: bool) -> HeaderMap {
        let mut headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        let id = HeaderValue::from_static("id-1");
        let target = target("Shop.example:8443");
        let identity =
            Identity { peer: [192, 0, 2, 7].into(), trusted, scheme: Scheme::Https, target: &target, id: &id };
        apply(&mut headers, &identity);
        headers
    }

    #[test]
    fn a_strangers_claims_are_replaced() {
        let headers = applied(
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-port", "1"),
                ("x-forwarded-prefix", "/evil"),
                ("x-real-ip", "6.6.6.6"),
                ("x-request-id", "evil"),
                ("x-origin-host", "evil"),
                ("forwarded", "for=6.6.6.6"),
                ("x_forwarded_for", "6.6.6.6"),
                ("x-forwarded_for", "6.6.6.6"),
                ("x_real-ip", "6.6.6.6"),
                ("x-own", "kept"),
            ],
            false,
        );
        let expected = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "Shop.example:8443"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
            ("x-own", "kept"),
            ("x-real-ip", "192.0.2.7"),
            ("x-request-id", "id-1"),
        ];
        let mut found: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_extended() {
        let headers = applied(
            &[
                ("x-forwarded-for", "198.51.100.1"),
                ("x-forwarded-for", "198.51.100.2"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "198.51.100.1"),
                ("x_forwarded_for", "6.6.6.6"),
                ("x-origin-host", "evil"),
                ("forwarded", "for=198.51.100.1"),
            ],
            true,
        );
        assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 198.51.100.2, 192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-real-ip"], "198.51.100.1");
        assert_eq!(headers["forwarded"], "for=198.51.100.1");
        assert!(!headers.contains_key("x_forwarded_for"));
        assert!(!headers.contains_key("x-origin-host"));
    }

    #[test]
    fn an_id_is_taken_over_only_from_the_trusted_and_if_sane() {
        let with = |id: &str, trusted| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, id.parse().unwrap())]);
            request_id(&headers, trusted)
        };
        assert_eq!(with("abc-1", true), "abc-1");
        assert_ne!(with("abc-1", false), "abc-1");
        assert_ne!(with("<script>", true), "<script>");
        assert_ne!(with(&"a".repeat(129), true), "a".repeat(129));
        assert_eq!(with("abc-1", false).len(), 32);
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_claim_survives(
            name in "(x[-_](forwarded[-_](for|proto|host|port|server)|real[-_]ip|origin[-_]host)|forwarded)"
        ) {
            let headers = applied(&[(&name, "evil")], false);
            prop_assert!(headers.values().all(|value| value != "evil"));
        }
    }
}
