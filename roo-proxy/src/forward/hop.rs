//! Header fields that are for one hop only, and those that two protocol versions write differently.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

/// The protocol that the client wants to change to, if it asks and may (RFC 9110 §7.8).
///
/// `h2c` is not among them: it would open a way around everything that is checked per request.
pub(crate) fn upgrade_wanted<B>(request: &Request<B>) -> Option<HeaderValue> {
    if request.version() != Version::HTTP_11 || !lists(request.headers(), &CONNECTION, "upgrade") {
        return None;
    }
    let wanted = request.headers().get(UPGRADE)?;
    let text = wanted.to_str().ok()?;
    let clean = !text.split(',').any(|token| token.trim().eq_ignore_ascii_case("h2c"));
    clean.then(|| wanted.clone())
}

/// Makes a request's fields fit for an HTTP/1.1 upstream: strips the hop, then adds what the next one
/// needs. `Host` is the caller's to set afterwards.
pub(crate) fn request_fields(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    let trailers = lists(headers, &TE, "trailers");
    strip(headers);
    // hyper answers 100 Continue itself when the body is first asked for.
    headers.remove(EXPECT);
    join_cookies(headers);
    match (upgrade, trailers) {
        (Some(protocol), _) => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        // RFC 9110 §10.1.4: who sends TE names it in Connection.
        (None, true) => {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        (None, false) => {}
    }
}

/// Strips what was meant for the proxy from a response's fields.
pub(crate) fn response_fields(headers: &mut HeaderMap) {
    strip(headers);
}

/// Removes every hop-by-hop field: the fixed ones and all that `Connection` names (RFC 9110 §7.6.1).
///
/// What `Connection` may not name, because taking it away would change the message's meaning for the
/// next hop, is kept.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE] {
        headers.remove(name);
    }
    remove_proxy_fields(headers);
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// `Proxy-Authorization` and its kin, and `Proxy`, which CGI programs would take for a setting.
fn remove_proxy_fields(headers: &mut HeaderMap) {
    let is_proxy = |name: &HeaderName| name.as_str() == "proxy" || name.as_str().starts_with("proxy-");
    while let Some(name) = headers.keys().find(|name| is_proxy(name)).cloned() {
        headers.remove(name);
    }
}

/// HTTP/2 may split the field, HTTP/1 may not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined =
        HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("valid values joined by valid characters are valid");
    headers.insert(COOKIE, joined);
}

/// Whether a comma-separated field holds a token, in any case, parameters aside.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn after(fields: &[(&str, &str)], upgrade: Option<&'static str>) -> HeaderMap {
        let mut headers = map(fields);
        request_fields(&mut headers, upgrade.map(HeaderValue::from_static));
        headers
    }

    #[test]
    fn the_hop_is_stripped() {
        let headers = after(
            &[
                ("connection", "close, X-Private"),
                ("connection", "x-other"),
                ("x-private", "1"),
                ("x-other", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "secret"),
                ("proxy-connection", "keep-alive"),
                ("proxy", "http://evil"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("expect", "100-continue"),
                ("accept", "*/*"),
            ],
            None,
        );
        assert_eq!(headers, map(&[("accept", "*/*")]));
    }

    #[test]
    fn the_frame_and_the_host_cannot_be_nominated_away() {
        let fields = [("connection", "content-length, host"), ("content-length", "3"), ("host", "a.example")];
        assert_eq!(after(&fields, None), map(&fields[1..]));
    }

    #[test]
    fn te_passes_trailers_alone() {
        let headers = after(&[("te", "gzip, trailers;q=0.5"), ("connection", "te")], None);
        assert_eq!(headers, map(&[("te", "trailers"), ("connection", "te")]));
        assert_eq!(after(&[("te", "gzip")], None), HeaderMap::new());
    }

    #[test]
    fn an_upgrade_is_named_anew() {
        let headers = after(
            &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("te", "trailers")],
            Some("websocket"),
        );
        assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let headers = after(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], None);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn only_a_clean_http11_upgrade_counts() {
        let wanted = |version, connection: &str, upgrade: &str| {
            let request = Request::builder()
                .version(version)
                .header("connection", connection)
                .header("upgrade", upgrade)
                .body(())
                .unwrap();
            upgrade_wanted(&request).is_some()
        };
        assert!(wanted(Version::HTTP_11, "keep-alive, Upgrade", "websocket"));
        assert!(!wanted(Version::HTTP_10, "upgrade", "websocket"));
        assert!(!wanted(Version::HTTP_11, "keep-alive", "websocket"));
        assert!(!wanted(Version::HTTP_11, "upgrade, http2-settings", "h2c"));
        assert!(!wanted(Version::HTTP_11, "upgrade", "websocket, H2C"));
    }

    proptest! {
        #[test]
        fn whatever_connection_names_is_gone(
            names in proptest::collection::vec("[a-z]{1,8}(-[a-z]{1,8})?", 0..8),
            noise in "[ -~]{0,40}",
        ) {
            let mut headers = HeaderMap::new();
            for name in &names {
                headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
            }
            headers.insert(CONNECTION, HeaderValue::from_str(&format!("{},{noise}", names.join(" , "))).unwrap());
            request_fields(&mut headers, None);
            prop_assert!(names.iter().all(|name| name == "host" || !headers.contains_key(name)));
        }
    }
}
