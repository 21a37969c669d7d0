//! `/roo/v1/secret`: changing the cluster's secret. No secret is ever in a request or an answer, except sealed.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};
use crate::app::{Report, RotationError};

/// `{"next": …, "force": …}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The new secret, sealed with the present one under the name `com.roo.secret`, in base64.
    next: String,
    #[serde(default)]
    force: bool,
}

/// `GET /roo/v1/secret`: how far a change is.
pub(super) async fn show(State(api): Shared) -> Result<Json<Report>, ApiError> {
    Ok(Json(api.rotation.report().await?))
}

/// `POST /roo/v1/secret`: begins a change.
pub(super) async fn change(State(api): Shared, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let wanted = serde_json::from_slice(&body);
    let Wanted { next, force } = wanted.map_err(|error| ApiError::bad_request("bad-secret", error.to_string()))?;
    api.rotation.begin(&next, force).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "ok": true }))))
}

/// `POST /roo/v1/secret/finish`: drops the former one.
pub(super) async fn finish(State(api): Shared) -> Result<(StatusCode, Json<Value>), ApiError> {
    api.rotation.finish().await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "ok": true }))))
}

impl From<RotationError> for ApiError {
    fn from(error: RotationError) -> Self {
        let text = error.to_string();
        match error {
            RotationError::Store(error) => error.into(),
            RotationError::Sealed(_) => {
                Self::bad_request("bad-secret", text).hint("give the present secret by --secret, ROO_SECRET or --data-dir")
            }
            RotationError::Secret(_) | RotationError::Same => Self::bad_request("bad-secret", text),
            RotationError::UnderWay => Self::new(StatusCode::CONFLICT, "rotation-under-way", text)
                .hint("`roo secret status` tells how far it is; `roo secret finish` ends the overlap"),
            RotationError::None => Self::new(StatusCode::CONFLICT, "no-rotation", text),
            RotationError::Unreachable(_) => Self::new(StatusCode::CONFLICT, "member-unreachable", text).hint(
                "bring them back or remove them; with --force they are left behind, and need the new secret to come back",
            ),
        }
    }
}
