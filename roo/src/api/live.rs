//! `/roo/v1/connections`, `/roo/v1/upstreams`: what this node's proxy does right now.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use roo_proxy::{ConnectionView, UpstreamView};
use serde::Deserialize;

use super::{ApiError, Shared};

/// Entries of an answer where nobody says how many.
const LIMIT: usize = 1_000;
/// Entries of an answer at most.
const LIMIT_MAX: usize = 100_000;

/// `?limit=N`.
#[derive(Debug, Deserialize)]
pub(super) struct Bound {
    limit: Option<usize>,
}

fn limit(query: Result<Query<Bound>, QueryRejection>) -> Result<usize, ApiError> {
    let Query(bound) = query.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    match bound.limit.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(ApiError::bad_request("bad-query", format!("`limit` is a number from 1 to {LIMIT_MAX}"))),
    }
}

/// `GET /roo/v1/connections?limit=N`: the open connections of clients.
pub(super) async fn connections(
    State(api): Shared,
    query: Result<Query<Bound>, QueryRejection>,
) -> Result<Json<Vec<ConnectionView>>, ApiError> {
    Ok(Json(api.control.connections(limit(query)?).await))
}

/// `GET /roo/v1/upstreams?limit=N`: the instances that routes lead to, as far as they were asked.
pub(super) async fn upstreams(
    State(api): Shared,
    query: Result<Query<Bound>, QueryRejection>,
) -> Result<Json<Vec<UpstreamView>>, ApiError> {
    Ok(Json(api.control.upstreams(limit(query)?).await))
}
