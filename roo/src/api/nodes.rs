//! `/roo/v1/nodes`: the members of the cluster.

use axum::Json;
use axum::extract::State;
use roo_kv::Status;
use serde_json::{Value, json};

use super::Shared;

/// `GET /roo/v1/nodes`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(rows(&api.store.status()))
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
                "this": member.id == status.node_id,
            })
        })
        .collect()
}
