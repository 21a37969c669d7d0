//! `/roo/v1/watch/{prefix}`: changes as server-sent events (HTML Living Standard, 9.2) or over a websocket (RFC 6455).

mod form;
mod reader;
mod socket;
mod sse;

use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use roo_kv::{Revision, Since, WatchError};
use serde::Deserialize;
use serde_json::json;

use super::entry::revision_header;
use super::query::flag;
use super::{ApiError, Rights, Shared, key};
use form::Form;
use reader::Reader;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Between progress marks, where the caller does not say.
const PROGRESS_DEFAULT: Duration = Duration::from_secs(10);
const PROGRESS_MIN: Duration = Duration::from_millis(100);
const PROGRESS_MAX: Duration = Duration::from_secs(3600);

/// `?from=&prev=1&progress=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    from: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    prev: bool,
    progress: Option<String>,
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// `GET /roo/v1/watch`: changes of all keys.
pub(super) async fn all(
    state: Shared,
    rights: Rights,
    query: Result<Query<WatchQuery>, QueryRejection>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    begin(state, rights, "", query, &headers, upgrade)
}

/// `GET /roo/v1/watch/{prefix}`. Without `from` first every entry that is there that the caller may read as `put`,
/// then `synced`, then changes as they are applied on this node; with it, changes from that revision on.
pub(super) async fn prefix(
    state: Shared,
    rights: Rights,
    prefix: Result<Path<String>, PathRejection>,
    query: Result<Query<WatchQuery>, QueryRejection>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let Path(prefix) = prefix.map_err(|rejection| key::bad_path(&rejection))?;
    begin(state, rights, &prefix, query, &headers, upgrade)
}

fn begin(
    State(api): Shared,
    rights: Rights,
    prefix: &str,
    query: Result<Query<WatchQuery>, QueryRejection>,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    let since = since(&query, headers)?;
    let progress = query.progress.as_deref().map_or(Ok(PROGRESS_DEFAULT), progress)?;
    // Browsers let any page open a websocket to anywhere, and tell only here whose page it is.
    if upgrade.is_ok() && headers.contains_key(ORIGIN) && !headers.contains_key(AUTHORIZATION) {
        let message = "a web page may not open a websocket without the token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "from-a-page", message));
    }
    let place = api.watchers.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "this node serves as many watches as it can")
            .hint("ask another node")
    })?;
    let revision = api.store.revision();
    let follow = api.store.follow(prefix, since).map_err(|error| match error {
        WatchError::Compacted { oldest } => ApiError::new(StatusCode::GONE, "compacted", error.to_string())
            .hint("read what is there now and go on from its revision, or leave `from` out")
            .headers(revision_header(revision))
            .fact("oldest", json!(oldest)),
        other => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store-failed", other.to_string()),
    })?;
    // Of a prefix that the caller may not read as a whole it is sent what it may.
    let only = (!rights.may_read(prefix)).then_some(rights);
    let form = |socket| Form { socket, prev: query.prev, only };
    Ok(match upgrade {
        Ok(upgrade) => socket::serve(upgrade, Reader::new(api, follow, form(true), progress, place)),
        Err(_) => sse::serve(Reader::new(api, follow, form(false), progress, place), revision),
    })
}

/// Where to begin. What a client says it has seen counts more than the URL, which it repeats when it comes back.
fn since(query: &WatchQuery, headers: &HeaderMap) -> Result<Since, ApiError> {
    let bad = |what: &str, text: &str| {
        ApiError::bad_request("bad-query", format!("`{text}` in {what} is no revision"))
            .hint("a revision is a number, as in X-Roo-Revision")
    };
    if let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) {
        let text = value.to_str().unwrap_or_default();
        let seen: u64 = text.parse().map_err(|_| bad("Last-Event-ID", text))?;
        return Ok(Since::Revision(Revision(seen.saturating_add(1))));
    }
    match query.from.as_deref() {
        None => Ok(Since::Everything),
        Some("now") => Ok(Since::Now),
        Some(text) => text.parse().map(|from| Since::Revision(Revision(from))).map_err(|_| bad("`from`", text)),
    }
}

fn progress(text: &str) -> Result<Duration, ApiError> {
    let every = crate::config::duration(text).map_err(|message| ApiError::bad_request("bad-query", message))?;
    if (PROGRESS_MIN..=PROGRESS_MAX).contains(&every) {
        return Ok(every);
    }
    Err(ApiError::bad_request("bad-query", format!("`progress={text}`: it is at least 100ms and at most 1h")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(from: Option<&str>, seen: Option<&'static str>) -> Result<Since, &'static str> {
        let query = WatchQuery { from: from.map(str::to_owned), prev: false, progress: None };
        let seen = seen.map(|text| (LAST_EVENT_ID, text.parse().expect("a header")));
        since(&query, &seen.into_iter().collect()).map_err(|error| error.code)
    }

    #[test]
    fn a_watch_begins_where_it_is_asked_to() {
        assert_eq!(begins(None, None), Ok(Since::Everything));
        assert_eq!(begins(Some("now"), None), Ok(Since::Now));
        assert_eq!(begins(Some("7"), None), Ok(Since::Revision(Revision(7))));
        assert_eq!(begins(Some("7"), Some("41")), Ok(Since::Revision(Revision(42))));
        assert_eq!(begins(None, Some("")), Ok(Since::Everything));
        assert_eq!(begins(Some("soon"), None), Err("bad-query"));
        assert_eq!(begins(Some("7"), Some("x")), Err("bad-query"));
    }

    #[test]
    fn progress_marks_come_neither_too_often_nor_too_seldom() {
        let found = ["1s", "100ms", "10ms", "2h", "x"].map(|text| progress(text).map_err(|error| error.code).ok());
        assert_eq!(found, [Some(Duration::from_secs(1)), Some(Duration::from_millis(100)), None, None, None]);
    }
}
