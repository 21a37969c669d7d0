//! `/roo/v1/upgrade`: another process takes over from this one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{ApiError, Shared};

/// `POST /roo/v1/upgrade`. Answered once the next process has the listening sockets; the store goes over after that.
pub(super) async fn upgrade(State(api): Shared) -> Result<Json<Value>, ApiError> {
    let stopping = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this node stops");
    let (request, answer) = oneshot::channel();
    api.upgrades.send(request).await.map_err(|_| stopping())?;
    match answer.await.map_err(|_| stopping())? {
        Ok(version) => Ok(Json(json!({ "ok": true, "process": std::process::id(), "version": version }))),
        Err(reason) => Err(ApiError::new(StatusCode::CONFLICT, "no-upgrade", reason)),
    }
}
