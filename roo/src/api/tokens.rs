//! `/roo/v1/tokens`: tokens for parts of the store.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Rights, Shared};
use crate::app::{Grant, TokenError, tokens};

/// `{"name": …, "read": […], "write": […], "admin": …, "ttl": "30d"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    export: bool,
    ttl: Option<String>,
}

/// `GET /roo/v1/tokens`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(api.policy.tokens.rows())
}

/// `POST /roo/v1/tokens`: the only answer that ever holds the token.
pub(super) async fn add(
    State(api): Shared,
    rights: Rights,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let wanted = serde_json::from_slice(&body);
    let Wanted { name, read, write, admin, export, ttl } = wanted
        .map_err(|error| ApiError::bad_request("bad-token", format!("the body is no wish for a token: {error}")))?;
    let ttl = ttl.as_deref().map(lifetime).transpose()?;
    if export {
        rights.check_grant_export()?;
    }
    let grant = Grant { read, write, admin, export };
    let token = tokens::add(&api.store, &api.vault, &name, grant, ttl).await?;
    Ok((StatusCode::CREATED, Json(json!({ "name": name, "token": token }))))
}

/// `DELETE /roo/v1/tokens/{name}`.
pub(super) async fn remove(State(api): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    tokens::remove(&api.store, &name).await?;
    Ok(Json(json!({ "ok": true })))
}

fn lifetime(text: &str) -> Result<Duration, ApiError> {
    let bad = |fault: String| ApiError::bad_request("bad-token", format!("ttl: {fault}"));
    match crate::config::duration(text).map_err(bad)? {
        Duration::ZERO => Err(bad("it must be longer than nothing".to_owned())),
        ttl => Ok(ttl),
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let text = error.to_string();
        match error {
            TokenError::Store(error) => error.into(),
            TokenError::Exists { .. } => Self::new(StatusCode::CONFLICT, "token-exists", text)
                .hint("take another name, or remove that one: `roo token rm NAME`"),
            TokenError::Unknown { .. } => Self::not_found(text).hint("`roo token ls` lists those that there are"),
            TokenError::Seal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
            TokenError::BadName { .. } | TokenError::NoRight | TokenError::TooManyPrefixes | TokenError::BadTtl => {
                Self::bad_request("bad-token", text)
            }
        }
    }
}
