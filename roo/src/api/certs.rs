//! `/roo/v1/certs`: certificates at hand, and names that wait for one.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::Shared;

/// `GET /roo/v1/certs`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(api.certificates.rows(&api.vault).await)
}
