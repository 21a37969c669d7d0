//! The keys that callers name: how they are spelled, who may write them, and what is shown of their values.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use roo_kv::{Entry, Key};
use roo_proxy::{Origin, Route, TlsPolicy};

use super::{Api, ApiError};
use crate::keys::{self, Access};

/// The key in the path of a call.
pub(super) fn in_path(path: Result<Path<String>, PathRejection>) -> Result<Key, ApiError> {
    match path {
        Ok(Path(text)) => canonical(text),
        Err(PathRejection::MissingPathParams(_)) => canonical(String::new()),
        Err(rejection) => Err(bad_path(&rejection)),
    }
}

/// The key as it is stored. Routes have one spelling of their origin, whatever was asked for.
pub(super) fn canonical(text: String) -> Result<Key, ApiError> {
    match text.strip_prefix(keys::ROUTE_PREFIX) {
        Some(origin) => {
            let origin: Origin =
                origin.parse().map_err(|error| ApiError::bad_request("bad-origin", format!("{error}")))?;
            Ok(keys::route(&origin))
        }
        None => Ok(Key::try_from(text)?),
    }
}

/// Whether callers may write the key.
pub(super) fn writable(key: &Key) -> Result<(), ApiError> {
    match keys::access(key.as_str()) {
        Access::Ordinary | Access::Route => Ok(()),
        Access::Reserved => Err(reserved(&format!("`{key}` belongs to Roo and can't be written"))),
    }
}

/// Whether callers may write this value under the key.
pub(super) fn accepts(key: &Key, value: &[u8]) -> Result<(), ApiError> {
    writable(key)?;
    if keys::access(key.as_str()) == Access::Route {
        let route = Route::parse(value).map_err(|error| ApiError::bad_request("bad-route", error.to_string()))?;
        if route.client_tls != TlsPolicy::default() && key.as_str().ends_with(":http") {
            return Err(ApiError::bad_request(
                "bad-route",
                "`client_tls` is for https origins: over http there is no handshake",
            )
            .hint("write the route under an origin that ends with :https"));
        }
        let labels = [crate::app::SWARM_SOURCE_PREFIX, crate::app::PLAIN_SOURCE_PREFIX];
        if route.source.is_some_and(|source| labels.iter().any(|label| source.starts_with(label))) {
            return Err(ApiError::bad_request("bad-route", "`source` says that a label wrote this route")
                .hint("leave `source` out: the watcher removes routes of its own when their service is gone"));
        }
    }
    Ok(())
}

/// Whether callers may delete everything under the prefix.
pub(super) fn sweepable(prefix: &str) -> Result<(), ApiError> {
    match keys::reserves_under(prefix) {
        false => Ok(()),
        true => Err(reserved(&format!("there are keys that belong to Roo under `{prefix}`"))),
    }
}

/// Whether callers may compare the key's value: of what is not shown, not even by guessing.
pub(super) fn comparable(key: &Key) -> Result<(), ApiError> {
    match keys::access(key.as_str()) {
        Access::Ordinary | Access::Route => Ok(()),
        Access::Reserved => Err(reserved(&format!("the value of `{key}` belongs to Roo and can't be compared"))),
    }
}

pub(super) fn reserved(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "reserved-key", message)
        .hint("keys that start with `com.roo.` are Roo's own, except routes: com.roo.host:<host>[:<port>]:<scheme>")
}

/// What a caller sees of a value. Of a certificate: its facts. Of an instance: all. Of anything else of Roo's own:
/// nothing.
pub(super) fn shown(api: &Arc<Api>, key: &Key, entry: &Entry) -> Bytes {
    match keys::access(key.as_str()) {
        Access::Ordinary | Access::Route => entry.value.clone(),
        Access::Reserved if key.as_str().starts_with(keys::INSTANCE_PREFIX) => entry.value.clone(),
        Access::Reserved => match key.as_str().strip_prefix(keys::CERTIFICATE_PREFIX) {
            Some(name) => Bytes::from(api.vault.facts_json(name, &entry.value)),
            None => Bytes::new(),
        },
    }
}

pub(super) fn bad_path(rejection: &PathRejection) -> ApiError {
    ApiError::bad_request("bad-key", format!("the key in the path can't be read: {}", rejection.body_text()))
        .hint("a key is UTF-8 text, percent-encoded where a URL needs it")
}
