//! `/roo/v1/watch/{prefix}`: changes as server-sent events (HTML Living Standard, 9.2).

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use futures_util::stream;
use serde_json::{Value, json};

use super::{Api, ApiError, Shared, kv};

/// `GET /roo/v1/watch`: changes of all keys.
pub(super) async fn all(state: Shared) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    events(state, "")
}

/// `GET /roo/v1/watch/{prefix}`. First every entry that is there as `put`, then `synced`, then changes as they
/// are applied on this node.
pub(super) async fn prefix(
    state: Shared,
    prefix: Result<Path<String>, PathRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let Path(prefix) = prefix.map_err(|rejection| kv::bad_path(&rejection))?;
    events(state, &prefix)
}

fn events(
    State(api): Shared,
    prefix: &str,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let place = api.watchers.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "this node serves as many watches as it can")
            .hint("ask another node")
    })?;
    let watch = api.store.watch(prefix);
    // The place is given back when the client leaves and the stream is dropped.
    let batches = stream::unfold((api, watch, place), |(api, mut watch, place)| async move {
        let batch = tokio::select! {
            batch = watch.next() => batch.ok()?,
            () = api.stopping.cancelled() => return None,
        };
        let mut events: Vec<Result<Event, Infallible>> =
            batch.events.into_iter().map(|event| Ok(event_of(&api, event))).collect();
        if batch.reset {
            events.push(Ok(named("synced", &json!({ "revision": batch.revision }))));
        }
        Some((stream::iter(events), (api, watch, place)))
    });
    Ok(Sse::new(futures_util::StreamExt::flatten(batches)).keep_alive(KeepAlive::default()))
}

fn event_of(api: &Arc<Api>, event: roo_kv::Event) -> Event {
    match event {
        roo_kv::Event::Put { key, entry } => {
            let facts = json!({
                "key": key,
                "create_revision": entry.create_revision,
                "mod_revision": entry.mod_revision,
                "version": entry.version,
                "value": STANDARD.encode(kv::shown(api, &key, entry)),
            });
            named("put", &facts)
        }
        roo_kv::Event::Delete { key, revision, expired } => {
            let name = if expired { "expire" } else { "delete" };
            named(name, &json!({ "key": key, "mod_revision": revision }))
        }
    }
}

fn named(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
