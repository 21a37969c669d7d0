//! What a caller is told when a call does not succeed: JSON with `error`, `code`, `hint` and `request_id`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// The name of the header that carries the request's id.
const REQUEST_ID: &str = "x-request-id";

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// For programs: lower case, words joined by dashes, never changes its meaning.
    pub(super) code: &'static str,
    /// For people: what is wrong, with the value.
    message: String,
    /// For people: what to do.
    hint: Option<String>,
    /// For programs: more about this case, beside the fields that every error has.
    facts: Map<String, Value>,
    headers: Box<HeaderMap>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None, facts: Map::new(), headers: Box::default() }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds a field to the body.
    pub(super) fn fact(mut self, name: &str, value: Value) -> Self {
        self.facts.insert(name.to_owned(), value);
        self
    }

    /// Adds headers to the answer.
    pub(super) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }
}

impl From<roo_kv::Error> for ApiError {
    fn from(error: roo_kv::Error) -> Self {
        use roo_kv::{ChangeError, Error as E};
        let (status, code) = match &error {
            E::NotReady { .. } => (StatusCode::SERVICE_UNAVAILABLE, "store-not-ready"),
            E::NoLeader { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no-leader"),
            E::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            E::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            E::Failed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "store-failed"),
            E::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk-full"),
            E::OutcomeUnknown => (StatusCode::GATEWAY_TIMEOUT, "outcome-unknown"),
            E::Conflict { .. } => (StatusCode::PRECONDITION_FAILED, "conflict"),
            E::TooLarge { .. } | E::TooManyOps { .. } | E::TooManyDeletes { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large")
            }
            E::BadTtl { .. } => (StatusCode::BAD_REQUEST, "bad-ttl"),
            E::LeaseNotFound { .. } => (StatusCode::NOT_FOUND, "lease-not-found"),
            E::Membership(ChangeError::NotAMember { .. }) => (StatusCode::NOT_FOUND, "no-such-node"),
            E::Membership(ChangeError::StillUp { .. }) => (StatusCode::CONFLICT, "node-is-up"),
            E::Rescue(_) => (StatusCode::CONFLICT, "no-rescue"),
            E::Membership(_) => (StatusCode::CONFLICT, "unsafe-change"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<roo_kv::KeyError> for ApiError {
    fn from(error: roo_kv::KeyError) -> Self {
        Self::bad_request("bad-key", error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The fallback for paths that nobody serves.
pub(super) async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no {} here", uri.path()))
        .hint("the API's paths begin with /roo/v1/, for example /roo/v1/status")
}

/// The fallback for a served path with another method.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        format!("{} can't be called with {method}", uri.path()),
    )
}

/// The answer to whoever does not speak TLS where it is spoken.
pub(super) async fn tls_needed() -> ApiError {
    ApiError::bad_request("tls-needed", "this API speaks TLS only")
        .hint(
            "call it by https; verbs do so with --tls or ROO_API_TLS=true, and `roo ca api` prints the root for others",
        )
        .headers(HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]))
}

/// Gives each request an id and writes the bodies of errors, which name it.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let id = format!("{:016x}", fastrand::u64(..));
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let mut body = error.facts;
        body.extend([
            ("error".to_owned(), json!(error.message)),
            ("code".to_owned(), json!(error.code)),
            ("hint".to_owned(), json!(error.hint)),
            ("request_id".to_owned(), json!(id)),
        ]);
        let body = Value::Object(body);
        *response.body_mut() = Body::from(format!("{body}\n"));
        response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
        response.headers_mut().extend(*error.headers);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if error.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
