//! `/roo/v1/ca`: the root of the internal certificate authority.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::{ApiError, Shared};

/// `GET /roo/v1/ca`: PEM.
pub(super) async fn root(State(api): Shared) -> Result<impl IntoResponse, ApiError> {
    match api.vault.internal_root().await {
        Some(pem) => Ok(([(CONTENT_TYPE, "application/x-pem-file")], pem)),
        None => Err(ApiError::not_found("there is no internal CA in this cluster")
            .hint("it comes into being when a node runs with --acme-directory internal")),
    }
}
