//! `/roo/v1/rescue`: the majority is lost for good, and this node goes on alone.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};

/// `POST /roo/v1/rescue` with `{"yes": true}`. The node starts again by itself once it has answered.
pub(super) async fn rescue(State(api): Shared, body: Bytes) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    struct Consent {
        yes: bool,
    }
    if !serde_json::from_slice::<Consent>(&body).is_ok_and(|consent| consent.yes) {
        return Err(ApiError::bad_request(
            "not-confirmed",
            "a rescue gives up what only the lost nodes had stored, and shuts them out for good",
        )
        .hint("`roo rescue --yes`, or the body {\"yes\": true}"));
    }
    let former = api.store.status().cluster_id;
    let cluster = api.store.rescue().await?;
    Ok(Json(json!({ "ok": true, "cluster": cluster, "former": former })))
}
