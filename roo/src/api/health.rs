//! `/roo/ping`, `/livez`, `/readyz`. Live and ready differ: without a quorum a node serves requests as before.

use axum::extract::State;
use axum::http::StatusCode;
use roo_kv::Phase;

use super::Shared;

const DISK_FULL: &str = "less than 32 MiB are free below the data directory; writes are refused while this node leads";

/// `GET /roo/ping`.
pub(super) async fn ping() -> &'static str {
    "PONG"
}

/// `GET /livez`: the process does its work. Fails only when the store asks for a restart.
pub(super) async fn live(State(api): Shared) -> (StatusCode, String) {
    match api.store.status().phase {
        Phase::Failed { reason } => (StatusCode::SERVICE_UNAVAILABLE, format!("[-] store: {reason}\n")),
        _ => (StatusCode::OK, "ok\n".to_owned()),
    }
}

/// `GET /readyz`: a line per check, 503 if one fails.
pub(super) async fn ready(State(api): Shared) -> (StatusCode, String) {
    let status = api.store.status();
    let store = match &status.phase {
        Phase::Ready => Ok("member of a cluster with a leader".to_owned()),
        Phase::Forming { waiting_for } => Err(waiting_for.clone()),
        Phase::NoLeader => Err("no leader is known; requests are served from the last known routes".to_owned()),
        Phase::Failed { reason } => Err(reason.clone()),
        _ => Err("unknown".to_owned()),
    };
    let loaded = |is_loaded| if is_loaded { Ok("loaded".to_owned()) } else { Err("not loaded yet".to_owned()) };
    let (routes, services) = (loaded(api.routes.is_loaded()), loaded(api.catalog.is_loaded()));
    let process = if api.stopping.is_cancelled() { Err("stopping".to_owned()) } else { Ok("running".to_owned()) };
    let disk = if status.disk_full { Err(DISK_FULL.to_owned()) } else { Ok("has room".to_owned()) };
    let checks = [("process", process), ("store", store), ("disk", disk), ("routes", routes), ("services", services)];
    let failed = checks.iter().any(|(_, check)| check.is_err());
    let text = checks.iter().map(|(name, check)| match check {
        Ok(text) => format!("[+] {name}: {text}\n"),
        Err(text) => format!("[-] {name}: {text}\n"),
    });
    (if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, text.collect())
}
