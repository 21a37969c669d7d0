//! `/roo/v1/kv/{key}` and `/roo/v1/kvs/{prefix}`: entries of the store.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roo_kv::{Entry, Key, PutOptions, ReadLevel, Revision, Scan};
use roo_proxy::{Origin, Route};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Api, ApiError, Shared};
use crate::keys::{self, Access};

/// The header that tells the store's revision that an answer shows.
const REVISION: &str = "x-roo-revision";
/// Entries on a page, where the caller sets no limit.
const LIMIT_DEFAULT: usize = roo_kv::PAGE_ENTRIES_MAX;

/// `?level=linearizable|leader|stale`.
#[derive(Debug, Deserialize)]
pub(super) struct Level {
    #[serde(default)]
    level: LevelName,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LevelName {
    #[default]
    Linearizable,
    Leader,
    Stale,
}

impl From<LevelName> for ReadLevel {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Linearizable => Self::Linearizable,
            LevelName::Leader => Self::Leader,
            LevelName::Stale => Self::Stale,
        }
    }
}

/// `?limit=&cursor=&level=`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    level: LevelName,
}

/// `GET /roo/v1/kv/{key}`: the raw bytes, or of Roo's own entries the facts that may be seen.
pub(super) async fn read(
    State(api): Shared,
    key: Result<Path<String>, PathRejection>,
    level: Result<Query<Level>, QueryRejection>,
) -> Result<Response, ApiError> {
    let key = canonical(key)?;
    let Query(Level { level }) = level.map_err(bad_query)?;
    let entry = api.store.get(&key, level.into()).await?;
    let entry = entry.ok_or_else(|| ApiError::not_found(format!("there is no key `{key}`")))?;
    let mut headers = revision_header(entry.mod_revision);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", entry.mod_revision)) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok((headers, shown(&api, &key, entry)).into_response())
}

/// `PUT /roo/v1/kv/{key}`.
pub(super) async fn write(
    State(api): Shared,
    key: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let key = canonical(key)?;
    let value = body.map_err(|rejection| bad_body(&rejection))?;
    writable(&key)?;
    if keys::access(key.as_str()) == Access::Route {
        let route = Route::parse(&value).map_err(|error| ApiError::bad_request("bad-route", error.to_string()))?;
        if route.source.is_some_and(|source| source.starts_with(crate::app::SWARM_SOURCE_PREFIX)) {
            return Err(ApiError::bad_request("bad-route", "`source` says that a Swarm label wrote this route")
                .hint("leave `source` out: the watcher removes routes of its own when their service is gone"));
        }
    }
    let revision = api.store.put(key, value, PutOptions::default()).await?;
    Ok(written(revision))
}

/// `DELETE /roo/v1/kv/{key}`.
pub(super) async fn delete(State(api): Shared, key: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let key = canonical(key)?;
    writable(&key)?;
    match api.store.delete(&key, None).await? {
        Some(revision) => Ok(written(revision)),
        None => Err(ApiError::not_found(format!("there is no key `{key}`"))),
    }
}

/// `GET /roo/v1/kvs`: everything.
pub(super) async fn scan_all(
    state: Shared,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    page(state, String::new(), query).await
}

/// `GET /roo/v1/kvs/{prefix}`.
pub(super) async fn scan(
    state: Shared,
    prefix: Result<Path<String>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(prefix) = prefix.map_err(|rejection| bad_path(&rejection))?;
    page(state, prefix, query).await
}

async fn page(
    State(api): Shared,
    prefix: String,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = match query.limit {
        None => LIMIT_DEFAULT,
        Some(0) => return Err(ApiError::bad_request("bad-query", "`limit` must be at least 1")),
        Some(limit) => limit,
    };
    let after = query.cursor.filter(|cursor| !cursor.is_empty()).map(Key::try_from).transpose()?;
    let scan = Scan { prefix: prefix.clone(), after, limit };
    let page = api.store.scan(scan, query.level.into()).await?;
    let cursor = page.entries.last().filter(|_| page.more).map(|(key, _)| key.to_string());
    let results: Map<String, Value> = page
        .entries
        .into_iter()
        .map(|(key, entry)| (key.to_string(), Value::String(STANDARD.encode(shown(&api, &key, entry)))))
        .collect();
    let mut body = json!({ "results": results, "query": prefix, "revision": page.revision });
    if let Some(cursor) = cursor {
        body["cursor"] = Value::String(cursor);
    }
    Ok((revision_header(page.revision), Json(body)).into_response())
}

/// The key as it is stored. Routes have one spelling of their origin, whatever was asked for.
fn canonical(path: Result<Path<String>, PathRejection>) -> Result<Key, ApiError> {
    let text = match path {
        Ok(Path(text)) => text,
        Err(PathRejection::MissingPathParams(_)) => String::new(),
        Err(rejection) => return Err(bad_path(&rejection)),
    };
    match text.strip_prefix(keys::ROUTE_PREFIX) {
        Some(origin) => {
            let origin: Origin =
                origin.parse().map_err(|error| ApiError::bad_request("bad-origin", format!("{error}")))?;
            Ok(keys::route(&origin))
        }
        None => Ok(Key::try_from(text)?),
    }
}

fn writable(key: &Key) -> Result<(), ApiError> {
    if keys::access(key.as_str()) != Access::Reserved {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "reserved-key", format!("`{key}` belongs to Roo and can't be written"))
        .hint("keys that start with `com.roo.` are Roo's own, except routes: com.roo.host:<host>[:<port>]:<scheme>"))
}

/// What a caller sees of a value. Of a certificate: its facts. Of anything else of Roo's own: nothing.
pub(super) fn shown(api: &Arc<Api>, key: &Key, entry: Entry) -> Bytes {
    match keys::access(key.as_str()) {
        Access::Ordinary | Access::Route => entry.value,
        Access::Reserved => match key.as_str().strip_prefix(keys::CERTIFICATE_PREFIX) {
            Some(name) => Bytes::from(api.vault.facts_json(name, &entry.value)),
            None => Bytes::new(),
        },
    }
}

fn written(revision: Revision) -> Response {
    (revision_header(revision), Json(json!({ "ok": true, "revision": revision }))).into_response()
}

fn revision_header(revision: Revision) -> HeaderMap {
    HeaderMap::from_iter([(axum::http::HeaderName::from_static(REVISION), HeaderValue::from(revision.0))])
}

pub(super) fn bad_path(rejection: &PathRejection) -> ApiError {
    ApiError::bad_request("bad-key", format!("the key in the path can't be read: {}", rejection.body_text()))
        .hint("a key is UTF-8 text, percent-encoded where a URL needs it")
}

fn bad_query(rejection: QueryRejection) -> ApiError {
    ApiError::bad_request("bad-query", rejection.body_text())
}

fn bad_body(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let max = roo_kv::VALUE_BYTES_MAX;
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("a value has at most {max} bytes (1 MiB)"))
    } else {
        ApiError::bad_request("bad-body", rejection.body_text())
    }
}
