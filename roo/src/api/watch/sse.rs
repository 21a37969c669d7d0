//! A watch as server-sent events.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use roo_kv::Revision;

use super::super::entry::revision_header;
use super::reader::Reader;

/// The answer to a call, which goes on until the client leaves or the reader ends.
pub(super) fn serve(reader: Reader, revision: Revision) -> Response {
    let frames = stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<_, Infallible>(bytes), reader))
    });
    let mut headers = revision_header(revision);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (headers, Body::from_stream(frames)).into_response()
}
