//! Every way in which a request ends without an upstream's response.

use http::StatusCode;

use crate::codec::{Malformed, RequestFault};

/// Why the proxy answers itself. The reason is public (`Roo-Error`); nothing else of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The request is not one that may be passed on.
    #[error("{why}")]
    BadRequest {
        /// What is wrong, for the client to read.
        why: &'static str,
    },
    /// The header fields are larger than the limit.
    #[error("the request's header fields are too large")]
    HeaderTooLarge,
    /// `CONNECT`: this is no forward proxy.
    #[error("the method is not supported here")]
    NotImplemented,
    /// No route has the name.
    #[error("Host Not Found")]
    UnknownHost,
    /// No challenge has the token.
    #[error("there is no such challenge")]
    UnknownChallenge,
    /// The name is not one that the connection's certificate speaks for (RFC 9110 §15.5.20).
    #[error("this connection is not for that host")]
    Misdirected,
    /// The client stopped sending its request.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// The route has no destination, or its services have no instance.
    #[error("the service has no instance right now")]
    NoUpstream,
    /// All instances were out already, and did not accept this request either.
    #[error("the service has no instance that answers right now")]
    NoHealthyUpstream {
        /// Seconds after which one is looked at again.
        retry_after: u32,
    },
    /// The destination's name does not resolve.
    #[error("the service's address is not known")]
    Unresolved,
    /// Nothing may be connected to at the destination's address.
    #[error("the service's address is not allowed")]
    Forbidden,
    /// No address accepted the connection.
    #[error("the service refused the connection")]
    Refused,
    /// The connection broke before the response.
    #[error("the service closed the connection without an answer")]
    Reset,
    /// The TLS handshake with the upstream failed.
    #[error("no secure connection to the service")]
    Tls,
    /// Connection or response head took too long.
    #[error("the service did not answer in time")]
    Timeout,
    /// The connection limit is reached.
    #[error("too many connections")]
    TooManyConnections,
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Failure {
        Failure::BadRequest { why: malformed.0 }
    }
}

impl From<RequestFault> for Failure {
    fn from(fault: RequestFault) -> Failure {
        match fault {
            RequestFault::Malformed(malformed) => malformed.into(),
            RequestFault::TooLarge => Failure::HeaderTooLarge,
        }
    }
}

impl Failure {
    /// The value of `Roo-Error`; stable, documented, free of detail.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Failure::BadRequest { .. } => "bad-request",
            Failure::HeaderTooLarge => "header-too-large",
            Failure::NotImplemented => "not-implemented",
            Failure::UnknownHost => "unknown-host",
            Failure::UnknownChallenge => "unknown-challenge",
            Failure::Misdirected => "misdirected-request",
            Failure::RequestTimeout => "request-timeout",
            Failure::NoUpstream => "no-upstream",
            Failure::NoHealthyUpstream { .. } => "no-healthy-upstream",
            Failure::Unresolved => "upstream-unresolved",
            Failure::Forbidden => "upstream-forbidden",
            Failure::Refused => "upstream-refused",
            Failure::Reset => "upstream-reset",
            Failure::Tls => "upstream-tls",
            Failure::Timeout => "upstream-timeout",
            Failure::TooManyConnections => "too-many-connections",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Failure::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Failure::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Failure::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Failure::UnknownHost | Failure::UnknownChallenge => StatusCode::NOT_FOUND,
            Failure::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Failure::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Failure::NoUpstream | Failure::NoHealthyUpstream { .. } | Failure::TooManyConnections => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::Unresolved | Failure::Forbidden | Failure::Refused | Failure::Reset | Failure::Tls => {
                StatusCode::BAD_GATEWAY
            }
            Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether the upstream is to blame, which the proxy's owner is told.
    pub(crate) fn is_upstream(self) -> bool {
        matches!(
            self,
            Failure::Unresolved
                | Failure::Forbidden
                | Failure::Refused
                | Failure::Reset
                | Failure::Tls
                | Failure::Timeout
        )
    }

    /// Seconds after which another try makes sense.
    pub(crate) fn retry_after(self) -> Option<u32> {
        match self {
            Failure::NoUpstream | Failure::TooManyConnections => Some(1),
            Failure::NoHealthyUpstream { retry_after } => Some(retry_after),
            _ => None,
        }
    }

    /// Whether the rest of the request may still be on its way, so that the connection cannot go on.
    pub(crate) fn closes(self) -> bool {
        matches!(self, Failure::RequestTimeout | Failure::HeaderTooLarge | Failure::BadRequest { .. })
    }
}
