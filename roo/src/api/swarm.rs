//! `/roo/v1/swarm`: look at the Swarm's services now.

use axum::extract::State;
use axum::http::StatusCode;

use super::{ApiError, Shared};

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
