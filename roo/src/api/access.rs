//! Who may do what: a token, or, while nobody set one, an address on a private network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::{Api, ApiError};

/// Who may use the API.
pub(crate) struct Policy {
    /// The token that always opens everything.
    pub(crate) token: String,
    /// Whether a person set a token or a secret: then every write needs the token.
    pub(crate) enforced: bool,
}

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// See entries and facts.
    Read,
    /// Change something, or look into the process.
    Write,
}

impl Policy {
    fn check(&self, right: Right, peer: IpAddr, headers: &HeaderMap) -> Result<(), ApiError> {
        if let Some(given) = bearer(headers) {
            return match verify_slices_are_equal(given.as_bytes(), self.token.as_bytes()) {
                Ok(()) => Ok(()),
                Err(_) => Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-token", "the token is not this cluster's")
                    .hint("`roo token` prints it, given the same secret")),
            };
        }
        if !is_private(peer) || is_forwarded(headers) || (right == Right::Write && self.enforced) {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "token-needed", "this call needs the API's token")
                .hint("send `Authorization: Bearer <token>`; `roo token` prints it, given the same secret"));
        }
        if right == Right::Write && headers.contains_key(ORIGIN) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "from-a-page",
                "a web page may not write without the token",
            ));
        }
        Ok(())
    }
}

/// The token in `Authorization: Bearer <token>` (RFC 6750) or `Authorization: Token <token>`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    known.then(|| token.trim())
}

/// Whether a proxy passed the request on: then the address of the peer tells nothing about the client.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Loopback, private (RFC 1918, RFC 4193), link-local and shared (RFC 6598) addresses.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

pub(super) async fn may_read(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    api.policy.check(Right::Read, peer.ip(), request.headers())?;
    Ok(next.run(request).await)
}

pub(super) async fn may_write(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    api.policy.check(Right::Write, peer.ip(), request.headers())?;
    Ok(next.run(request).await)
}

pub(super) async fn by_method(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let right = if reads { Right::Read } else { Right::Write };
    api.policy.check(right, peer.ip(), request.headers())?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const LOCAL: &str = "127.0.0.1";
    const OVERLAY: &str = "10.0.1.7";
    const PUBLIC: &str = "203.0.113.9";

    fn check(
        enforced: bool,
        right: Right,
        peer: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Option<&'static str> {
        let policy = Policy { token: "the-right-token".to_owned(), enforced };
        let headers = headers.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect();
        policy.check(right, peer.parse().expect("an address"), &headers).err().map(|error| error.code)
    }

    #[test]
    fn without_a_secret_private_addresses_may_read_and_write() {
        for peer in [LOCAL, OVERLAY, "::1", "::ffff:10.0.0.1", "fd00::1", "100.64.0.1"] {
            assert_eq!(check(false, Right::Write, peer, &[]), None, "{peer}");
        }
        assert_eq!(check(false, Right::Read, PUBLIC, &[]), Some("token-needed"));
    }

    #[test]
    fn with_a_secret_writes_need_the_token() {
        assert_eq!(check(true, Right::Read, LOCAL, &[]), None);
        assert_eq!(check(true, Right::Write, LOCAL, &[]), Some("token-needed"));
        for value in ["Bearer the-right-token", "bearer the-right-token", "Token the-right-token"] {
            assert_eq!(check(true, Right::Write, PUBLIC, &[("authorization", value)]), None, "{value}");
        }
    }

    #[test]
    fn a_wrong_token_is_refused_everywhere() {
        assert_eq!(check(false, Right::Read, LOCAL, &[("authorization", "Bearer x")]), Some("wrong-token"));
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_private() {
        for right in [Right::Read, Right::Write] {
            assert_eq!(check(false, right, LOCAL, &[("x-forwarded-for", "203.0.113.9")]), Some("token-needed"));
        }
    }

    #[test]
    fn a_web_page_may_not_write() {
        assert_eq!(check(false, Right::Write, LOCAL, &[("origin", "https://a.example")]), Some("from-a-page"));
    }
}
