//! The proxy's own answers: small, in the form that the client accepts, naming nobody.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::failure::Failure;
use crate::request_id::RequestId;

/// The header that carries [`Failure::reason`].
pub(crate) const ROO_ERROR: HeaderName = HeaderName::from_static("roo-error");

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Html,
    Json,
}

impl Form {
    /// The form that `Accept` likes best; text when it is absent or likes all the same (RFC 9110 §12.5.1).
    pub(crate) fn accepted(accept: Option<&[u8]>) -> Form {
        let text = accept.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        let mut best = (0, Form::Text);
        for (form, quality) in text.split(',').take(RANGES_MAX).filter_map(range) {
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Text => "text/plain; charset=utf-8",
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/json",
        })
    }
}

/// Further media ranges are not looked at.
const RANGES_MAX: usize = 32;

/// Form and quality in thousandths of one media range, if it names a form that there is.
fn range(text: &str) -> Option<(Form, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let form = match parts.next()?.to_ascii_lowercase().as_str() {
        "text/html" | "application/xhtml+xml" => Form::Html,
        "application/json" | "application/problem+json" => Form::Json,
        "text/plain" | "text/*" => Form::Text,
        _ => return None,
    };
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
    Some((form, (f32::clamp(quality, 0.0, 1.0) * 1000.0) as u32))
}

/// The answer to a request that failed. `id` is the request's.
pub(crate) fn failure(failure: Failure, form: Form, id: &RequestId) -> Response<Bytes> {
    let status = failure.status();
    let body = body(form, status, failure.reason(), &failure.to_string(), id);
    let mut response = response(status, form, body);
    let headers = response.headers_mut();
    headers.insert(ROO_ERROR, HeaderValue::from_static(failure.reason()));
    if let Some(seconds) = failure.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A permanent redirect that keeps the method (RFC 9110 §15.4.9).
pub(crate) fn redirect(location: HeaderValue, form: Form, id: &RequestId) -> Response<Bytes> {
    let status = StatusCode::PERMANENT_REDIRECT;
    let body = body(form, status, "redirect", "this host is served over https", id);
    let mut response = response(status, form, body);
    response.headers_mut().insert(LOCATION, location);
    response
}

fn response(status: StatusCode, form: Form, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, form.content_type());
    if !status.is_redirection() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// All texts but the id are our own constants; an id holds only characters that need no escaping in
/// any of the forms (see [`RequestId`]).
fn body(form: Form, status: StatusCode, code: &str, message: &str, id: &RequestId) -> String {
    let number = status.as_u16();
    match form {
        Form::Text => format!("{message}\n\nrequest {id}\n"),
        Form::Json => {
            format!("{{\"error\":\"{message}\",\"code\":\"{code}\",\"request_id\":\"{id}\"}}\n")
        }
        Form::Html => {
            let title = status.canonical_reason().unwrap_or_default();
            format!(
                "<!doctype html><meta charset=utf-8><title>{number} {title}</title>\
                 <h1>{number} {title}</h1><p>{message}<p><small>{code}, request {id}</small>\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn accepted(accept: &str) -> Form {
        Form::accepted(Some(accept.as_bytes()))
    }

    #[test]
    fn the_form_follows_accept() {
        assert_eq!(Form::accepted(None), Form::Text);
        assert_eq!(accepted("*/*"), Form::Text);
        assert_eq!(accepted("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Form::Html);
        assert_eq!(accepted("application/json"), Form::Json);
        assert_eq!(accepted("text/html;q=0.5, application/json;q=0.9"), Form::Json);
        assert_eq!(accepted("application/json;q=nonsense"), Form::Text);
        assert_eq!(accepted("application/json;q=0"), Form::Text);
        assert_eq!(accepted("text/html;q=NaN"), Form::Text);
    }

    #[test]
    fn a_failure_tells_reason_and_id_in_each_form() {
        let id = RequestId::new();
        for form in [Form::Text, Form::Html, Form::Json] {
            let response = failure(Failure::NoUpstream, form, &id);
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["roo-error"], "no-upstream");
            assert_eq!(response.headers()["retry-after"], "1");
            let body = std::str::from_utf8(response.body()).unwrap();
            assert!(body.contains(id.as_str()), "{body}");
            assert!(!body.to_lowercase().contains("roo"), "{body}");
        }
    }

    #[test]
    fn json_is_json() {
        let id = RequestId::new();
        let response = failure(Failure::UnknownHost, Form::Json, &id);
        let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(value["code"], "unknown-host");
        assert_eq!(value["request_id"], id.as_str());
    }
}
