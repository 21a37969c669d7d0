//! Our own answers to calls of gRPC, whose clients look at `grpc-status` (github.com/grpc/grpc: `PROTOCOL-HTTP2.md`,
//! `http-grpc-status-mapping.md`).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::answer::ROO_ERROR;
use crate::codec::Fields;
use crate::failure::Failure;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether these are the fields of a call. `application/grpc-web` is none: its answers are HTTP's.
pub(crate) fn is_call(fields: &Fields<'_>) -> bool {
    let mut fields = fields.iter();
    fields.any(|field| field.name.eq_ignore_ascii_case(b"content-type") && is_grpc(field.value))
}

/// Whether a `Content-Type` is gRPC's.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// The answer to a call that failed: a head and nothing else, which says everything.
pub(crate) fn failure(failure: Failure) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(STATUS, status(failure.status()).into());
    // All texts are our own: printable, and without a `%`.
    if let Ok(message) = HeaderValue::from_str(&failure.to_string()) {
        fields.insert(MESSAGE, message);
    }
    fields.insert(ROO_ERROR, HeaderValue::from_static(failure.reason()));
    response
}

/// The status that a client would make of HTTP's by itself.
fn status(status: StatusCode) -> u16 {
    const UNKNOWN: u16 = 2;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    match status {
        StatusCode::BAD_REQUEST => INTERNAL,
        StatusCode::NOT_FOUND => UNIMPLEMENTED,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_type() {
        for (content_type, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            let fields = Fields::of([("Content-Type", content_type.as_bytes())].into_iter());
            assert_eq!(is_call(&fields), is, "{content_type}");
        }
    }

    #[test]
    fn each_failure_has_its_status() {
        for (reason, status) in [
            (Failure::BadRequest { why: "it is odd" }, "13"),
            (Failure::UnknownHost, "12"),
            (Failure::Refused, "14"),
            (Failure::NoUpstream, "14"),
            (Failure::Timeout, "14"),
            (Failure::Misdirected, "2"),
        ] {
            let response = failure(reason);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], status);
            assert_eq!(response.headers()["grpc-message"], reason.to_string());
            assert_eq!(response.headers()["roo-error"], reason.reason());
        }
    }
}
