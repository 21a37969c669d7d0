//! `/roo/v1/leases`: promises to be renewed; when one ends, its keys are deleted.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use roo_kv::{Key, Lease, LeaseId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::entry::revision_header;
use super::query::{LevelName, flag};
use super::{Api, ApiError, Rights, Shared, key};
use crate::keys::{self, Access};

/// Leases on a page, where the caller sets no limit.
const LIMIT_DEFAULT: usize = roo_kv::PAGE_ENTRIES_MAX;

/// The body of a grant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    ttl: Value,
}

/// `?keys=1`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    #[serde(default, deserialize_with = "flag")]
    keys: bool,
}

/// `?limit=&cursor=&level=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    level: LevelName,
}

/// `POST /roo/v1/leases`.
pub(super) async fn grant(
    State(api): Shared,
    rights: Rights,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    rights.check_write_any()?;
    let body = body.map_err(|rejection| ApiError::bad_request("bad-body", rejection.body_text()))?;
    let ttl = ttl(&body)?;
    let id = api.store.lease_grant(ttl).await?;
    Ok(answer(&api, json!({ "id": id, "ttl": seconds(ttl) })))
}

/// `GET /roo/v1/leases`.
pub(super) async fn list(
    State(api): Shared,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 {
        return Err(ApiError::bad_request("bad-query", "`limit` must be at least 1"));
    }
    let after = query.cursor.as_deref().filter(|cursor| !cursor.is_empty()).map(id).transpose()?;
    let page = api.store.leases(after, limit, query.level.into()).await?;
    let rows: Vec<Value> = page.leases.iter().map(|(id, ttl)| json!({ "id": id, "ttl": seconds(*ttl) })).collect();
    let mut body = json!({ "leases": rows, "revision": page.revision });
    if let Some((last, _)) = page.leases.last().filter(|_| page.more) {
        body["cursor"] = json!(last);
    }
    Ok((revision_header(page.revision), Json(body)).into_response())
}

/// `GET /roo/v1/leases/{id}`: how long it lives yet, and its keys.
pub(super) async fn show(
    State(api): Shared,
    rights: Rights,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let id = in_path(path)?;
    let Query(query) = query.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    let lease = api.store.lease(id).await?;
    let mut facts = json!({ "id": id, "ttl": seconds(lease.ttl), "left": seconds(lease.left) });
    if query.keys {
        facts["keys"] = lease.keys.iter().filter(|key| rights.may_read(key.as_str())).map(|key| json!(key)).collect();
    }
    facts["revision"] = json!(lease.revision);
    Ok((revision_header(lease.revision), Json(facts)).into_response())
}

/// `POST /roo/v1/leases/{id}/keepalive`.
pub(super) async fn keep_alive(
    State(api): Shared,
    rights: Rights,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = in_path(path)?;
    let keys = api.store.lease_keys(id).await?;
    ours(&rights, id, &keys)?;
    let ttl = api.store.lease_keep_alive(id).await?;
    Ok(answer(&api, json!({ "id": id, "ttl": seconds(ttl) })))
}

/// `DELETE /roo/v1/leases/{id}`.
pub(super) async fn revoke(
    State(api): Shared,
    rights: Rights,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = in_path(path)?;
    let Lease { keys, .. } = api.store.lease(id).await?;
    ours(&rights, id, &keys)?;
    let revision = api.store.lease_revoke(id).await?;
    Ok((revision_header(revision), Json(json!({ "ok": true, "revision": revision }))).into_response())
}

/// A lease that callers name.
pub(super) fn id(text: &str) -> Result<LeaseId, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request("bad-lease", format!("`{text}` is no lease: {error}")))
}

fn in_path(path: Result<Path<String>, PathRejection>) -> Result<LeaseId, ApiError> {
    let Path(text) = path.map_err(|rejection| key::bad_path(&rejection))?;
    id(&text)
}

/// Who keeps or ends a lease decides about its keys. The leases of Roo's own keys are their holders' alone.
fn ours(rights: &Rights, id: LeaseId, keys: &[Key]) -> Result<(), ApiError> {
    rights.check_write_any()?;
    keys.iter().try_for_each(|key| rights.check_write(key.as_str()))?;
    match keys.iter().find(|key| keys::access(key.as_str()) == Access::Reserved) {
        None => Ok(()),
        Some(key) => Err(key::reserved(&format!("the lease {id} holds `{key}`, which belongs to Roo"))),
    }
}

/// `{"ttl": "30s"}` or `{"ttl": 30}`.
fn ttl(body: &[u8]) -> Result<Duration, ApiError> {
    let bad = |message: String| ApiError::bad_request("bad-ttl", message).hint("for example {\"ttl\": \"30s\"}");
    let Grant { ttl } = serde_json::from_slice(body).map_err(|error| bad(format!("no lease: {error}")))?;
    match &ttl {
        Value::String(text) => crate::config::duration(text).map_err(bad),
        Value::Number(number) => {
            let seconds = number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            seconds.ok_or_else(|| bad(format!("`{number}` is no number of seconds")))
        }
        other => Err(bad(format!("`{other}` is no time"))),
    }
}

/// Whole seconds as a whole number.
fn seconds(time: Duration) -> Value {
    match time.subsec_millis() {
        0 => json!(time.as_secs()),
        _ => json!(time.as_millis() as f64 / 1000.0),
    }
}

/// An answer that changed no key: with what this node knows of the store's revision.
fn answer(api: &Api, mut facts: Value) -> Response {
    let revision = api.store.revision();
    facts["revision"] = json!(revision);
    (StatusCode::OK, revision_header(revision), Json(facts)).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::Scope;
    use super::*;

    #[test]
    fn a_time_to_live_is_text_with_a_unit_or_a_number_of_seconds() {
        for (body, expected) in [
            (r#"{"ttl": "30s"}"#, Ok(30_000)),
            (r#"{"ttl": "1500ms"}"#, Ok(1500)),
            (r#"{"ttl": 30}"#, Ok(30_000)),
            (r#"{"ttl": 1.5}"#, Ok(1500)),
            (r#"{"ttl": -1}"#, Err("bad-ttl")),
            (r#"{"ttl": "soon"}"#, Err("bad-ttl")),
            (r#"{"ttl": null}"#, Err("bad-ttl")),
            (r#"{"tll": 30}"#, Err("bad-ttl")),
            ("", Err("bad-ttl")),
        ] {
            let found = ttl(body.as_bytes()).map(|ttl| ttl.as_millis()).map_err(|error| error.code);
            assert_eq!(found, expected, "{body}");
        }
    }

    #[test]
    fn the_leases_of_roos_own_locks_are_left_alone() {
        let keys = |names: &[&str]| names.iter().map(|name| name.parse().expect("a key")).collect::<Vec<Key>>();
        let all = Rights::all("root");
        let refused = |rights: &Rights, names: &[&str]| ours(rights, LeaseId(1), &keys(names)).err().map(|e| e.code);
        assert_eq!(refused(&all, &["a", "com.roo.host:a.example:https"]), None);
        assert_eq!(refused(&all, &["a", "com.roo.lock:swarm"]), Some("reserved-key"));
        // And those that hold what somebody may not write are not for them either.
        let some = Rights::within("ci", Scope::All, Scope::of(&["a/".to_owned()]));
        assert_eq!(refused(&some, &["a/x"]), None);
        assert!(refused(&some, &["a/x", "b"]).is_some());
        assert!(refused(&Rights::within("ci", Scope::All, Scope::none()), &[]).is_some());
    }

    #[test]
    fn seconds_are_whole_where_they_can_be() {
        assert_eq!(seconds(Duration::from_secs(30)).to_string(), "30");
        assert_eq!(seconds(Duration::from_millis(1500)).to_string(), "1.5");
    }
}
