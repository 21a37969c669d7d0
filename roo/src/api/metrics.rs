//! `/metrics`: the Prometheus text format.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics::gauge;
use roo_kv::Role;

use super::{Shared, WATCHERS_MAX};

/// `GET /metrics`.
pub(super) async fn render(State(api): Shared) -> impl IntoResponse {
    let status = api.store.status();
    gauge!("roo_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!("roo_raft_term").set(status.term as f64);
    gauge!("roo_raft_is_leader").set(f64::from(u8::from(status.role == Role::Leader)));
    gauge!("roo_raft_commit_index").set(status.committed.unwrap_or(0) as f64);
    gauge!("roo_raft_applied_index").set(status.applied.unwrap_or(0) as f64);
    gauge!("roo_store_revision").set(status.revision.0 as f64);
    gauge!("roo_routes").set(api.routes.len() as f64);
    gauge!("roo_api_watches").set((WATCHERS_MAX - api.watchers.available_permits()) as f64);
    for (name, not_after) in api.certificates.not_after() {
        gauge!("roo_tls_cert_not_after_seconds", "name" => name).set(not_after as f64);
    }
    for (state, count) in api.certificates.states(&api.vault).await {
        gauge!("roo_tls_certs", "state" => state).set(count as f64);
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], api.metrics.render())
}
