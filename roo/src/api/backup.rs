//! `/roo/v1/backup` and `/roo/v1/restore`: the whole store as one file.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use roo_kv::{RestoreError, RestoreOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};
use crate::keys;

/// `GET /roo/v1/backup`: the store as of now, while it is written to.
pub(super) async fn take(State(api): Shared) -> Result<Response, ApiError> {
    let (header, pieces) = api.store.backup().await?;
    let revision = header.revision.to_string();
    let headers = [
        (CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION.as_str(), format!("attachment; filename=\"roo-{revision}.backup\"")),
        ("x-roo-revision", revision),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct Options {
    /// Leave out values that were sealed with another secret.
    #[serde(default)]
    without_sealed: bool,
}

/// `POST /roo/v1/restore`: puts a backup into a cluster that holds nothing yet.
pub(super) async fn restore(
    State(api): Shared,
    options: Result<Query<Options>, QueryRejection>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let Query(options) = options.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let options = RestoreOptions {
        own: texts(&[keys::ROO_PREFIX]),
        counted: texts(keys::WRITTEN_BY_PEOPLE),
        sealed: texts(keys::SEALED_PREFIXES),
        sealer: api.vault.sealer(),
        without_sealed: options.without_sealed,
    };
    let pieces = body.into_data_stream().map_err(std::io::Error::other);
    let outcome = api.store.restore(pieces, options).await.map_err(refusal)?;
    Ok(Json(json!({
        "ok": true,
        "revision": outcome.revision,
        "entries": outcome.entries,
        "left_out": outcome.left_out,
        "cluster": outcome.header.cluster,
        "backup_revision": outcome.header.revision,
        "taken_ms": outcome.header.taken_ms,
    })))
}

fn refusal(error: RestoreError) -> ApiError {
    let message = error.to_string();
    match error {
        RestoreError::Store(roo_kv::Error::OutcomeUnknown) => ApiError::from(roo_kv::Error::OutcomeUnknown).hint(
            "restore it again when there is a leader: if it has happened, that is refused because the cluster is in use; \
             else it happens then",
        ),
        RestoreError::Store(error) => error.into(),
        RestoreError::Interrupted { .. } => ApiError::bad_request("bad-body", message),
        RestoreError::Damaged { .. } => {
            ApiError::bad_request("bad-backup", message).hint("nothing was changed; take another backup file")
        }
        RestoreError::NotEmpty { .. } => ApiError::new(StatusCode::CONFLICT, "not-empty", message)
            .hint("nothing was changed; start a new cluster with empty data directories and restore into that"),
        RestoreError::OtherSecret { .. } => ApiError::new(StatusCode::CONFLICT, "other-secret", message).hint(
            "nothing was changed; start the cluster with the secret of the one that was backed up, or leave these \
             values out with `--without-sealed`: certificates are then ordered anew",
        ),
        RestoreError::Superseded => ApiError::new(StatusCode::CONFLICT, "restore-superseded", message),
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message),
    }
}
