//! `/roo/v1/client-certificates`: certificates that upstreams are shown. Their keys go in and never come out.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};
use crate::app::{ClientCertificateError, client_certificates};

/// `{"certificate": PEM, "key": PEM}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    certificate: String,
    key: String,
}

/// `GET /roo/v1/client-certificates`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(api.client_certificates.rows())
}

/// `PUT /roo/v1/client-certificates/{name}`.
pub(super) async fn put(State(api): Shared, Path(name): Path<String>, body: Bytes) -> Result<Json<Value>, ApiError> {
    // The parser's error is not passed on: it could quote the key.
    let pair = serde_json::from_slice(&body);
    let Pair { certificate, key } =
        pair.map_err(|_| bad("the body is not {\"certificate\": PEM, \"key\": PEM}".into()))?;
    client_certificates::put(&api.store, &api.vault, &name, certificate, key).await?;
    Ok(Json(json!({ "ok": true })))
}

/// `DELETE /roo/v1/client-certificates/{name}`.
pub(super) async fn remove(State(api): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    client_certificates::remove(&api.store, &name).await?;
    Ok(Json(json!({ "ok": true })))
}

fn bad(text: String) -> ApiError {
    ApiError::bad_request("bad-client-certificate", text)
}

impl From<ClientCertificateError> for ApiError {
    fn from(error: ClientCertificateError) -> Self {
        let text = error.to_string();
        match error {
            ClientCertificateError::Store(error) => error.into(),
            ClientCertificateError::Unknown { .. } => {
                Self::not_found(text).hint("`roo cert client ls` lists those that there are")
            }
            ClientCertificateError::Seal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
            ClientCertificateError::BadName { .. } | ClientCertificateError::Unusable { .. } => bad(text),
        }
    }
}
