//! `/roo/v1/status`: a node and its cluster at a glance.

use axum::Json;
use axum::extract::State;
use axum::http::header::ALLOW;
use axum::response::IntoResponse;
use roo_kv::Phase;
use serde_json::{Map, Value, json};

use super::{Api, Shared, nodes};

/// `OPTIONS /roo/v1`.
pub(super) async fn options() -> impl IntoResponse {
    [(ALLOW, "GET, PUT, POST, DELETE, OPTIONS")]
}

/// `GET /roo/v1/status`.
pub(super) async fn show(State(api): Shared) -> Json<Value> {
    let status = api.store.status();
    let (state, waiting_for) = match &status.phase {
        Phase::Forming { waiting_for } => ("forming", Some(waiting_for.clone())),
        Phase::Ready => ("ready", None),
        Phase::NoLeader => ("no-leader", None),
        Phase::Failed { reason } => ("failed", Some(reason.clone())),
        _ => ("unknown", None),
    };
    // The first of each name: it is the last to be put in.
    let listeners: Map<String, Value> =
        api.listeners.iter().rev().map(|(name, address)| ((*name).to_owned(), json!(address))).collect();
    let of = |voter: bool| -> Vec<_> { status.members.iter().filter(|m| m.voter == voter).map(|m| m.id).collect() };
    let footprint = api.store.footprint().await;
    let snapshot = footprint.newest_snapshot.map(|snapshot| {
        json!({ "index": snapshot.index, "bytes": snapshot.bytes, "taken": nodes::milliseconds(snapshot.taken) })
    });
    let swarm = match &api.swarm {
        Some(swarm) => Some(swarm.summary().await),
        None => None,
    };
    Json(json!({
        "node": status.node_id,
        "process": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": state,
        "waiting_for": waiting_for,
        "cluster": status.cluster_id,
        "role": status.role,
        "leader": status.leader,
        "term": status.term,
        "last_log": status.last_log,
        "committed": status.committed,
        "applied": status.applied,
        "snapshot": status.snapshot,
        "last_snapshot": snapshot,
        "disk": { "log": footprint.log, "snapshots": footprint.snapshots, "state": footprint.state },
        "voters": of(true),
        "learners": of(false),
        "revision": status.revision,
        "disk_full": status.disk_full,
        "address": status.address,
        "started": status.started,
        "listeners": listeners,
        "addresses": addresses(&api),
        "ports": ports(&api),
        "nodes": nodes::rows(&status),
        "routes": api.routes.len(),
        "certificates": api.certificates.len(),
        "connections": api.control.stats().connections,
        "issuer": api.vault.issuer().await,
        "swarm": swarm,
    }))
}

/// All that is listened on from start to end.
fn addresses(api: &Api) -> Vec<Value> {
    api.listeners.iter().map(|(name, address)| json!({ "listener": name, "address": address })).collect()
}

/// The ports that routes name besides, and what is in the way of those that are not listened on.
fn ports(api: &Api) -> Value {
    let ports = api.control.ports();
    let failed: Vec<_> = ports
        .failed
        .iter()
        .map(|fault| json!({ "listener": fault.scheme.as_str(), "address": fault.address, "error": fault.reason }))
        .collect();
    json!({ "open": ports.open, "failed": failed })
}
