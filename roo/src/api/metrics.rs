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
    gauge!("roo_tls_certs_ending").set(api.certificates.ending() as f64);
    if let Some(swarm) = &api.swarm {
        gauge!("roo_config_rejected_labels").set(swarm.rejected() as f64);
    }
    for (state, count) in api.certificates.states(&api.vault).await {
        gauge!("roo_tls_certs", "state" => state).set(count as f64);
    }
    let text = api.metrics.render() + &ends(api.certificates.not_after());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// When certificates end. Not from the recorder, which would tell of certificates that are gone for ever.
fn ends(certificates: Vec<(String, i64)>) -> String {
    let mut text = String::new();
    if !certificates.is_empty() {
        text.push_str("# TYPE roo_tls_cert_not_after_seconds gauge\n");
    }
    for (name, not_after) in certificates {
        text.push_str(&format!("roo_tls_cert_not_after_seconds{{name=\"{name}\"}} {not_after}\n"));
    }
    text
}
