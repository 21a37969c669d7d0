//! `/roo/v1/nodes`: the members of the cluster. Any node passes on what only the leader can do.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use roo_kv::{MemberChange, NodeId, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};

/// What may stand behind the `?` of a removal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// Remove it although it is up.
    #[serde(default)]
    force: bool,
}

/// `GET /roo/v1/nodes`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(rows(&api.store.status()))
}

/// `DELETE /roo/v1/nodes/{id}`.
pub(super) async fn remove(
    state: Shared,
    Path(id): Path<String>,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Removal { force }) =
        removal.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    change(state, MemberChange::Remove { node: node(&id)?, force }).await
}

/// `POST /roo/v1/nodes/{id}/promote`.
pub(super) async fn promote(state: Shared, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    change(state, MemberChange::Promote { node: node(&id)? }).await
}

/// `POST /roo/v1/nodes/{id}/demote`.
pub(super) async fn demote(state: Shared, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    change(state, MemberChange::Demote { node: node(&id)? }).await
}

/// `POST /roo/v1/nodes/{id}/transfer`: the node leads from now on.
pub(super) async fn transfer(state: Shared, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    change(state, MemberChange::Transfer { to: Some(node(&id)?) }).await
}

/// `POST /roo/v1/nodes/transfer`: any other node leads from now on.
pub(super) async fn transfer_to_any(state: Shared) -> Result<Json<Value>, ApiError> {
    change(state, MemberChange::Transfer { to: None }).await
}

/// `POST /roo/v1/remove`, the original's path: the body is an id, or `{"node": id, "force": false}`.
pub(super) async fn remove_named(state: Shared, body: Bytes) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    struct Named {
        node: String,
        #[serde(default)]
        force: bool,
    }
    let text = std::str::from_utf8(&body).unwrap_or_default().trim();
    let named = match serde_json::from_str::<Named>(text) {
        Ok(named) => named,
        Err(_) if text.starts_with('{') => {
            return Err(ApiError::bad_request("bad-body", "the body is not of the form {\"node\": \"<id>\"}"));
        }
        Err(_) => Named { node: text.to_owned(), force: false },
    };
    change(state, MemberChange::Remove { node: node(&named.node)?, force: named.force }).await
}

async fn change(State(api): Shared, change: MemberChange) -> Result<Json<Value>, ApiError> {
    match api.store.change_membership(change).await {
        Ok(()) => Ok(Json(json!({ "ok": true }))),
        Err(error @ roo_kv::Error::Membership(roo_kv::ChangeError::StillUp { .. })) => {
            Err(ApiError::from(error).hint("`roo node remove --force`, or `?force=true`"))
        }
        Err(error) => Err(error.into()),
    }
}

fn node(id: &str) -> Result<NodeId, ApiError> {
    id.parse().map_err(|error: roo_kv::ParseIdError| {
        ApiError::bad_request("bad-id", format!("`{id}` is no node: {error}")).hint("`roo node ls` shows them")
    })
}

/// Since 1970.
pub(super) fn milliseconds(at: SystemTime) -> Option<u64> {
    u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// One object per member.
pub(super) fn rows(status: &Status) -> Vec<Value> {
    status
        .members
        .iter()
        .map(|member| {
            let role = match (member.leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            json!({
                "id": member.id,
                "address": member.address,
                "role": role,
                "state": if member.reachable { "reachable" } else { "unreachable" },
                "held": member.held,
                "behind": member.behind,
                "last_heard": member.last_heard.and_then(milliseconds),
                "this": member.id == status.node_id,
            })
        })
        .collect()
}
