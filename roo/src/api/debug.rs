//! `/debug/pprof/`: profiles in the format of `go tool pprof` (profile.proto, gzip).

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::{Api, ApiError, Shared};
use crate::profile;

/// A CPU profile is never longer than this.
const SECONDS_MAX: u64 = 300;

/// `?seconds=N`.
#[derive(Debug, Deserialize)]
pub(super) struct Seconds {
    #[serde(default = "thirty")]
    seconds: u64,
}

fn thirty() -> u64 {
    30
}

/// `GET /debug/pprof/`.
pub(super) async fn index(State(api): Shared) -> Result<Html<&'static str>, ApiError> {
    asked_for(&api)?;
    Ok(Html(
        "<!doctype html><title>profiles</title><h1>Profiles</h1><ul>\
         <li><a href=\"/debug/pprof/profile?seconds=10\">profile</a>: where the processors spend their time; \
         <code>go tool pprof http://host:6299/debug/pprof/profile?seconds=10</code>\
         <li><a href=\"/debug/pprof/heap\">heap</a>: what holds memory; \
         <code>go tool pprof http://host:6299/debug/pprof/heap</code></ul>\n",
    ))
}

/// `GET /debug/pprof/profile?seconds=N`.
pub(super) async fn profile(
    State(api): Shared,
    query: Result<Query<Seconds>, QueryRejection>,
) -> Result<Response, ApiError> {
    asked_for(&api)?;
    let Query(Seconds { seconds }) =
        query.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::bad_request("bad-query", format!("`seconds` is a number from 1 to {SECONDS_MAX}")));
    }
    answer("profile", profile::cpu(Duration::from_secs(seconds)).await)
}

/// `GET /debug/pprof/heap`.
pub(super) async fn heap(State(api): Shared) -> Result<Response, ApiError> {
    asked_for(&api)?;
    answer("heap", profile::heap().await)
}

fn asked_for(api: &Api) -> Result<(), ApiError> {
    if api.debug {
        return Ok(());
    }
    Err(ApiError::not_found("profiles are off on this node").hint("start it with --debug (ROO_DEBUG=true)"))
}

fn answer(name: &str, taken: Result<Vec<u8>, profile::ProfileError>) -> Result<Response, ApiError> {
    let bytes = taken.map_err(|error| match error {
        profile::ProfileError::Busy => ApiError::new(StatusCode::CONFLICT, "profile-running", error.to_string()),
        profile::ProfileError::Failed { .. } => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "profile-failed", error.to_string())
        }
    })?;
    let disposition = format!("attachment; filename=\"{name}.pb.gz\"");
    Ok(([(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_DISPOSITION, disposition)], bytes)
        .into_response())
}
