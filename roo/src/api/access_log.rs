//! `/roo/v1/access-log`: the log of requests.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{ApiError, Shared};

/// `POST /roo/v1/access-log/reopen`: opens the file anew, as SIGUSR1 does.
pub(super) async fn reopen(State(api): Shared) -> Result<Json<Value>, ApiError> {
    if api.control.reopen_access_log() {
        return Ok(Json(json!({ "ok": true })));
    }
    let error = ApiError::new(StatusCode::CONFLICT, "no-access-log", "this node keeps no access log");
    Err(error.hint("start it with --access-log (ROO_ACCESS_LOG)"))
}
