//! Who sends a request: whoever has a token, or, while nobody set one, somebody on a private network.
//!
//! A layer of this file stands before every path that is not open to all. It finds out who asks, puts that as
//! [`Rights`] into the request, and tells the audit log of writes. Behind [`identified`] it is for the handler
//! to ask the rights for each key; behind [`administers`] nothing is left to ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use roo_kv::Keyring;

use super::audit;
use super::body;
use super::rights::{Lack, Rights, Scope};
use super::server::OverTls;
use super::{Api, ApiError};
use crate::app::TokenBook;

/// Who may use the API.
pub(crate) struct Policy {
    /// The token that a person set, which then stands in for those that follow from the secret.
    pub(crate) token: Option<String>,
    /// From the secrets in it follow tokens that open everything.
    pub(crate) keyring: Arc<Keyring>,
    /// Whether a person set a token or a secret: then every write needs a token.
    pub(crate) enforced: bool,
    /// The tokens that were made with `roo token add`.
    pub(crate) tokens: TokenBook,
}

impl Policy {
    fn identify(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Rights, ApiError> {
        if let Some(given) = bearer(headers) {
            if self.is_root(given) {
                return Ok(Rights::root());
            }
            return self.tokens.rights(given).ok_or_else(|| {
                ApiError::new(StatusCode::FORBIDDEN, "wrong-token", "the token is not this cluster's, or has expired")
                    .hint("`roo token` prints the one of the secret, `roo token ls` the names of others")
            });
        }
        if !is_private(peer) || is_forwarded(headers) {
            return Err(ApiError::token_needed());
        }
        let from_a_page = headers.contains_key(ORIGIN);
        if self.enforced || from_a_page {
            let lack = if self.enforced { Lack::NoToken } else { Lack::FromAPage };
            return Ok(Rights { write: Scope::none(), admin: false, lack, ..Rights::all("open") });
        }
        Ok(Rights::all("open"))
    }
}

impl Policy {
    fn is_root(&self, given: &str) -> bool {
        let is = |token: &str| verify_slices_are_equal(given.as_bytes(), token.as_bytes()).is_ok();
        match &self.token {
            Some(token) => is(token),
            None => self.keyring.secrets().api_tokens().iter().any(|token| is(token)),
        }
    }
}

impl ApiError {
    /// Nobody is let in here without a token.
    pub(super) fn token_needed() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token-needed", "this call needs the API's token")
            .hint("send `Authorization: Bearer <token>`; `roo token` prints it, given the same secret")
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

/// For facts that everybody who is let in may see, and for handlers that ask the [`Rights`] for each key.
pub(super) async fn identified(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let write = !is_read(request.method());
    admit(&api, peer, request, next, write, |_| Ok(())).await
}

/// For what concerns the whole node or cluster.
pub(super) async fn administers(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let write = !is_read(request.method());
    admit(&api, peer, request, next, write, Rights::check_admin).await
}

/// For private keys: a right of its own, over TLS or within this machine, and told in the audit log.
pub(super) async fn exports(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let over_tls = request.extensions().get::<OverTls>().is_some_and(|OverTls(is)| *is);
    let unseen = over_tls || (peer.ip().to_canonical().is_loopback() && !is_forwarded(request.headers()));
    let demand = |rights: &Rights| {
        rights.check_export()?;
        match unseen {
            true => Ok(()),
            false => {
                Err(ApiError::new(StatusCode::FORBIDDEN, "export-in-clear", "private keys do not travel in the clear")
                    .hint("call the API by TLS (--api-tls), or from the machine of the node"))
            }
        }
    };
    admit(&api, peer, request, next, true, demand).await
}

async fn admit(
    api: &Api,
    peer: SocketAddr,
    mut request: Request,
    next: Next,
    audited: bool,
    demand: impl FnOnce(&Rights) -> Result<(), ApiError>,
) -> Response {
    let write = audited.then(|| audit::Write::of(&request, peer));
    let identified = api.policy.identify(peer.ip(), request.headers());
    let who = identified.as_ref().map_or_else(|_| "-".into(), |rights| Arc::clone(&rights.who));
    let admitted = identified.and_then(|rights| demand(&rights).map(|()| rights));
    let response = match admitted {
        Ok(rights) => {
            request.extensions_mut().insert(rights);
            body::in_time(request, next).await
        }
        Err(refusal) => refusal.into_response(),
    };
    if let Some(write) = write {
        let recorded = api.audit.record(&write, &who, &response);
        recorded.await;
    }
    response
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const LOCAL: &str = "127.0.0.1";
    const OVERLAY: &str = "10.0.1.7";
    const PUBLIC: &str = "203.0.113.9";

    fn identify(enforced: bool, peer: &str, headers: &[(&'static str, &'static str)]) -> Result<Rights, ApiError> {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = roo_kv::Secret::from_text("a secret for tests").expect("long enough");
        let keyring = Keyring::open_in(dir.path(), secret).expect("readable");
        let token = Some("the-right-token".to_owned());
        let policy = Policy { token, keyring, enforced, tokens: TokenBook::empty() };
        let headers = headers.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect();
        policy.identify(peer.parse().expect("an address"), &headers)
    }

    fn write(enforced: bool, peer: &str, headers: &[(&'static str, &'static str)]) -> Option<&'static str> {
        identify(enforced, peer, headers).and_then(|rights| rights.check_write("k")).err().map(|error| error.code)
    }

    fn read(enforced: bool, peer: &str, headers: &[(&'static str, &'static str)]) -> Option<&'static str> {
        identify(enforced, peer, headers).and_then(|rights| rights.check_read("k")).err().map(|error| error.code)
    }

    #[test]
    fn without_a_secret_private_addresses_may_read_and_write() {
        for peer in [LOCAL, OVERLAY, "::1", "::ffff:10.0.0.1", "fd00::1", "100.64.0.1"] {
            assert_eq!(write(false, peer, &[]), None, "{peer}");
        }
        assert_eq!(read(false, PUBLIC, &[]), Some("token-needed"));
    }

    #[test]
    fn with_a_secret_writes_need_the_token() {
        assert_eq!(read(true, LOCAL, &[]), None);
        assert_eq!(write(true, LOCAL, &[]), Some("token-needed"));
        assert!(!identify(true, LOCAL, &[]).is_ok_and(|rights| rights.admin));
        for value in ["Bearer the-right-token", "bearer the-right-token", "Token the-right-token"] {
            assert_eq!(write(true, PUBLIC, &[("authorization", value)]), None, "{value}");
        }
    }

    #[test]
    fn a_wrong_token_is_refused_everywhere() {
        assert_eq!(read(false, LOCAL, &[("authorization", "Bearer x")]), Some("wrong-token"));
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_private() {
        let forwarded = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(read(false, LOCAL, &forwarded), Some("token-needed"));
        assert_eq!(write(false, LOCAL, &forwarded), Some("token-needed"));
    }

    #[test]
    fn a_web_page_may_not_write() {
        assert_eq!(write(false, LOCAL, &[("origin", "https://a.example")]), Some("from-a-page"));
    }
}
