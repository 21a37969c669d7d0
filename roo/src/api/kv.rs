//! `/roo/v1/kv/{key}` and `/roo/v1/kvs/{prefix}`: entries of the store.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roo_kv::{Entry, Key, Op, OpResult, Revision, Scan, Txn};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::entry::{entry_headers, facts, revision_header, written_headers};
use super::query::{LevelName, flag};
use super::{ApiError, Rights, Shared, key};

/// Entries on a page, where the caller sets no limit.
const LIMIT_DEFAULT: usize = roo_kv::PAGE_ENTRIES_MAX;

/// `?level=linearizable|leader|stale`.
#[derive(Debug, Deserialize)]
pub(super) struct ReadQuery {
    #[serde(default)]
    level: LevelName,
}

/// `?prev_revision=&lease=&prev=1`. A name that is not known is refused: a condition that is misspelled must not be
/// left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    prev_revision: Option<u64>,
    lease: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    prev: bool,
}

/// `?limit=&cursor=&level=&meta=1`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    level: LevelName,
    #[serde(default, deserialize_with = "flag")]
    meta: bool,
}

/// `GET /roo/v1/kv/{key}`: the raw bytes, or of Roo's own entries the facts that may be seen.
pub(super) async fn read(
    State(api): Shared,
    rights: Rights,
    key: Result<Path<String>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let key = key::in_path(key)?;
    rights.check_read(key.as_str())?;
    let Query(query) = query.map_err(bad_query)?;
    let condition = Condition::of(&headers, None)?;
    let (found, revision) = api.store.get_at(&key, query.level.into()).await?;
    if !condition.is_wanted(found.as_ref()) {
        return Err(condition::failed(&key, revision, found.as_ref()));
    }
    let entry = found.ok_or_else(|| absent(&key, revision))?;
    let mut headers = entry_headers(revision, &entry);
    if !condition.is_news(&entry) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok((headers, key::shown(&api, &key, &entry)).into_response())
}

/// `PUT /roo/v1/kv/{key}`.
pub(super) async fn write(
    State(api): Shared,
    rights: Rights,
    key: Result<Path<String>, PathRejection>,
    query: Result<Query<WriteQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let key = key::in_path(key)?;
    rights.check_write(key.as_str())?;
    let Query(query) = query.map_err(bad_query)?;
    if query.prev {
        rights.check_read(key.as_str())?;
    }
    let condition = Condition::of(&headers, query.prev_revision)?;
    let lease = query.lease.as_deref().map(super::lease::id).transpose()?;
    let value = body.map_err(|rejection| bad_body(&rejection))?;
    key::accepts(&key, &value)?;
    let put = Op::Put { key: key.clone(), value, lease };
    let done = conditionally(&api.store, &key, &condition, query.prev, put).await?;
    let mut answer = json!({ "ok": true, "revision": done.revision });
    if query.prev {
        answer["prev"] = done.previous.map_or(Value::Null, |entry| facts(&api, &key, &entry));
    }
    Ok((written_headers(done.revision, done.revision), Json(answer)).into_response())
}

/// `DELETE /roo/v1/kv/{key}`.
pub(super) async fn delete(
    State(api): Shared,
    rights: Rights,
    key: Result<Path<String>, PathRejection>,
    query: Result<Query<WriteQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let key = key::in_path(key)?;
    rights.check_write(key.as_str())?;
    let Query(query) = query.map_err(bad_query)?;
    if query.prev {
        rights.check_read(key.as_str())?;
    }
    if query.lease.is_some() {
        return Err(ApiError::bad_request("bad-query", "`lease` is for writes; a deleted key has none"));
    }
    let condition = Condition::of(&headers, query.prev_revision)?;
    key::writable(&key)?;
    let done = conditionally(&api.store, &key, &condition, query.prev, Op::Delete { key: key.clone() }).await?;
    if done.result == (OpResult::Delete { existed: false }) {
        return Err(absent(&key, done.revision));
    }
    let mut answer = json!({ "ok": true, "revision": done.revision });
    if query.prev {
        answer["prev"] = done.previous.map_or(Value::Null, |entry| facts(&api, &key, &entry));
    }
    Ok((revision_header(done.revision), Json(answer)).into_response())
}

/// What a single write did.
struct Done {
    revision: Revision,
    /// What was there before, if it was asked for.
    previous: Option<Entry>,
    result: OpResult,
}

async fn conditionally(
    store: &roo_kv::Store,
    key: &Key,
    condition: &Condition,
    prev: bool,
    op: Op,
) -> Result<Done, ApiError> {
    let get = Op::Get { key: key.clone() };
    let success = if prev { vec![get.clone(), op] } else { vec![op] };
    let txn = Txn { compare: condition.compare(key), success, failure: vec![get] };
    let mut outcome = store.txn(txn).await?;
    let result = outcome.results.pop();
    let found = |result: Option<OpResult>| if let Some(OpResult::Get(entry)) = result { entry } else { None };
    match result {
        Some(result) if outcome.succeeded => {
            Ok(Done { revision: outcome.revision, previous: found(outcome.results.pop()), result })
        }
        current => Err(condition::failed(key, outcome.revision, found(current).as_ref())),
    }
}

/// `GET /roo/v1/kvs`: everything that the caller may read.
pub(super) async fn scan_all(
    state: Shared,
    rights: Rights,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    page(state, &rights, String::new(), query).await
}

/// `GET /roo/v1/kvs/{prefix}`.
pub(super) async fn scan(
    state: Shared,
    rights: Rights,
    prefix: Result<Path<String>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(prefix) = prefix.map_err(|rejection| key::bad_path(&rejection))?;
    page(state, &rights, prefix, query).await
}

async fn page(
    State(api): Shared,
    rights: &Rights,
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
    let result = |key: &Key, entry: &Entry| match query.meta {
        true => facts(&api, key, entry),
        false => Value::String(STANDARD.encode(key::shown(&api, key, entry))),
    };
    let results: Map<String, Value> = page
        .entries
        .iter()
        .filter(|(key, _)| rights.may_read(key.as_str()))
        .map(|(key, entry)| (key.to_string(), result(key, entry)))
        .collect();
    let mut body = json!({ "results": results, "query": prefix, "revision": page.revision });
    if let Some(cursor) = cursor {
        body["cursor"] = Value::String(cursor);
    }
    Ok((revision_header(page.revision), Json(body)).into_response())
}

fn absent(key: &Key, revision: Revision) -> ApiError {
    ApiError::not_found(format!("there is no key `{key}`")).headers(revision_header(revision))
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
