//! What is spoken to upstreams.

use serde::{Deserialize, Serialize};

/// The version of HTTP that a route's upstreams are spoken to in.
///
/// It is chosen, not negotiated: HTTP/1.1 costs less here and keeps requests apart, one to a connection, while HTTP/2
/// is what gRPC needs. So an upstream that begins to offer HTTP/2 changes nothing by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1, a connection for each request at a time.
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2, a connection for many requests at a time: agreed on in the handshake where there is TLS (RFC 9113 §3.2),
    /// else without asking (§3.3).
    #[serde(rename = "h2")]
    Http2,
}

impl Protocol {
    pub(crate) fn is_default(&self) -> bool {
        *self == Protocol::default()
    }
}
