//! `/roo/v1/accounts`: the cluster's accounts at CAs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use roo_acme::RollOverError;
use serde_json::{Value, json};

use super::{ApiError, Shared};

/// `POST /roo/v1/accounts/rollover`: gives them other keys.
pub(super) async fn roll_over(State(api): Shared) -> Result<Json<Value>, ApiError> {
    let accounts = Box::pin(roo_acme::roll_over(&api.vault, &api.authority, &api.issuing)).await?;
    if accounts.is_empty() {
        let text = "the cluster has no account at a CA yet".to_owned();
        return Err(ApiError::not_found(text).hint("one is registered with the first order of a certificate"));
    }
    Ok(Json(json!({ "ok": true, "accounts": accounts })))
}

impl From<RollOverError> for ApiError {
    fn from(error: RollOverError) -> Self {
        let text = error.to_string();
        match error {
            RollOverError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text),
            RollOverError::Vault(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-leader", text),
            RollOverError::Ca { .. } => Self::new(StatusCode::BAD_GATEWAY, "ca-failed", text)
                .hint("if the CA can't be reached, the change is ended when it is asked for something next"),
        }
    }
}
