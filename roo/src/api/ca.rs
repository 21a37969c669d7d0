//! `/roo/v1/ca`: the root of the internal certificate authority.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use roo_acme::CaFacts;

use super::{ApiError, Shared};

/// `GET /roo/v1/ca`: PEM.
pub(super) async fn root(State(api): Shared) -> Result<impl IntoResponse, ApiError> {
    match api.vault.internal_root().await {
        Some(pem) => Ok(([(CONTENT_TYPE, "application/x-pem-file")], pem)),
        None => Err(none()),
    }
}

/// `GET /roo/v1/ca/facts`.
pub(super) async fn facts(State(api): Shared) -> Result<Json<CaFacts>, ApiError> {
    api.vault.internal_facts().await.map(Json).ok_or_else(none)
}

fn none() -> ApiError {
    ApiError::not_found("there is no internal CA in this cluster").hint(
        "it comes into being with the first route for a private name, or when a node runs with --acme-directory internal",
    )
}
