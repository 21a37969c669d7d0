//! `/roo/v1/routes`: the routes this node serves, and those it can't read.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::{Rights, Shared};

/// `GET /roo/v1/routes`: those that the caller may read.
pub(super) async fn list(State(api): Shared, rights: Rights) -> Json<Vec<Value>> {
    Json(api.routes.rows(|key| rights.may_read(key.as_str())))
}
