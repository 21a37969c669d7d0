//! Fixed answers of the plain listener, by exact path.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderValue;

/// Exact path → content, answered on the http listener before any route is looked at, whatever the
/// `Host`. The answers to http-01 challenges live here.
#[derive(Clone, Debug, Default)]
pub struct Replies(HashMap<String, Reply>);

/// One fixed answer, status 200.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The `Content-Type`; left out if it is not a valid header value.
    pub content_type: String,
    /// The whole body.
    pub body: Bytes,
}

impl Replies {
    /// Builds a snapshot from paths such as `/.well-known/acme-challenge/token`.
    pub fn new(replies: impl IntoIterator<Item = (String, Reply)>) -> Replies {
        Replies(replies.into_iter().collect())
    }

    /// How many paths are answered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Reply> {
        self.0.get(path)
    }
}

impl Reply {
    /// An answer of type `text/plain`.
    pub fn text(body: impl Into<Bytes>) -> Reply {
        Reply { content_type: "text/plain; charset=utf-8".into(), body: body.into() }
    }

    pub(crate) fn content_type(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.content_type).ok()
    }
}
