//! How entries and revisions appear in answers: in headers and in JSON.

use std::sync::Arc;

use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roo_kv::{Entry, Key, Revision};
use serde_json::{Value, json};

use super::{Api, key};

/// The store's revision that an answer shows, or that a write made.
pub(super) const REVISION: HeaderName = HeaderName::from_static("x-roo-revision");
/// When the key was last written; the `ETag` says the same.
const MOD: HeaderName = HeaderName::from_static("x-roo-mod-revision");
const CREATE: HeaderName = HeaderName::from_static("x-roo-create-revision");
const VERSION: HeaderName = HeaderName::from_static("x-roo-version");
const LEASE: HeaderName = HeaderName::from_static("x-roo-lease");

/// The header of an answer that shows the store at a revision.
pub(super) fn revision_header(revision: Revision) -> HeaderMap {
    HeaderMap::from_iter([(REVISION, HeaderValue::from(revision.0))])
}

/// The headers of an answer about a key that was last written at `written`.
pub(super) fn written_headers(revision: Revision, written: Revision) -> HeaderMap {
    let mut headers = revision_header(revision);
    headers.insert(MOD, HeaderValue::from(written.0));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{written}\"")) {
        headers.insert(ETAG, tag);
    }
    headers
}

/// The headers of an answer that shows an entry.
pub(super) fn entry_headers(revision: Revision, entry: &Entry) -> HeaderMap {
    let mut headers = written_headers(revision, entry.mod_revision);
    headers.insert(CREATE, HeaderValue::from(entry.create_revision.0));
    headers.insert(VERSION, HeaderValue::from(entry.version));
    if let Some(lease) = entry.lease.and_then(|lease| HeaderValue::from_str(&lease.to_string()).ok()) {
        headers.insert(LEASE, lease);
    }
    headers
}

/// An entry in JSON, its value in base64.
pub(super) fn facts(api: &Arc<Api>, key: &Key, entry: &Entry) -> Value {
    let mut facts = json!({
        "key": key,
        "create_revision": entry.create_revision,
        "mod_revision": entry.mod_revision,
        "version": entry.version,
        "value": STANDARD.encode(key::shown(api, key, entry)),
    });
    if let Some(lease) = entry.lease {
        facts["lease"] = json!(lease);
    }
    facts
}
