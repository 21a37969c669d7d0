//! `/roo/v1/swarm`: what is seen of the Swarm, and a look at it now.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{ApiError, Shared};

/// `GET /roo/v1/swarm`: services with routes and tasks, what is wrong, and which node writes it into the store.
pub(super) async fn show(State(api): Shared) -> Json<Value> {
    Json(match &api.swarm {
        None => json!({ "state": "off" }),
        Some(swarm) => swarm.summary().await,
    })
}

/// `POST /roo/v1/swarm`.
pub(super) async fn rescan(State(api): Shared) -> Result<StatusCode, ApiError> {
    match &api.swarm {
        None => {
            Err(ApiError::bad_request("no-swarm", "this node does not watch a Swarm").hint("start it with --swarm"))
        }
        Some(swarm) => match swarm.rescan().await {
            Ok(()) => Ok(StatusCode::OK),
            Err(message) => Err(ApiError::bad_request("no-swarm-manager", message)),
        },
    }
}
