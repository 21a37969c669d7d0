//! `/roo/v1/routes`: the routes this node serves, and those it can't read.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::Shared;

/// `GET /roo/v1/routes`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(api.routes.rows())
}
