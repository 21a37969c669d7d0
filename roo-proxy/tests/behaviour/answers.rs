//! The proxy's own answers.

use crate::bench::Bench;
use crate::client::{field, raw, request2, status, text};

#[tokio::test]
async fn the_form_follows_accept_and_names_nobody() {
    let bench = Bench::start();
    for (accept, content_type, sample) in [
        ("*/*", "text/plain", "Host Not Found"),
        ("text/html", "text/html", "<h1>404 Not Found</h1>"),
        ("application/json", "application/json", r#""code":"unknown-host""#),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        let response = raw(bench.http, &request).await;
        assert_eq!(status(&response), 404);
        assert!(field(&response, "content-type").unwrap().starts_with(content_type));
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(body.contains(sample), "{body}");
        assert!(!body.to_lowercase().contains("roo"), "{body}");
        assert_eq!(field(&response, "server"), None);
    }
}

#[tokio::test]
async fn head_gets_the_fields_without_the_body() {
    let bench = Bench::start();
    let response = raw(bench.http, "HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&response), 404);
    assert!(response.ends_with("\r\n\r\n"));
    assert_ne!(field(&response, "content-length"), Some("0"));
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let bench = Bench::start();
    bench.routes(&[("a.test:http", "http://127.0.0.1:1")]);
    for (request, expected, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a test\r\n\r\n", 400, "bad-request"),
        ("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad-request"),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nConnection: close\r\n\r\n", 501, "not-implemented"),
    ] {
        let response = raw(bench.http, request).await;
        assert_eq!(status(&response), expected, "{request:?}");
        assert_eq!(field(&response, "roo-error"), Some(reason), "{request:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_gets_no_further() {
    let bench = Bench::start();
    for request in ["\x16\x03\x01\x02\x00\x01\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"] {
        let response = raw(bench.http, request).await;
        assert!(response.is_empty() || status(&response) == 400, "{request:?}: {response:?}");
    }
}

#[tokio::test]
async fn http2_errors_carry_reason_and_id() {
    let bench = Bench::start();
    bench.routes(&[("a.test:https", "http://127.0.0.1:1")]);
    let response = bench.https2("a.test").await.send_request(request2("GET", "a.test", "/")).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["roo-error"], "upstream-refused");
    assert_eq!(response.headers()["x-request-id"].len(), 32);
}

#[tokio::test]
async fn answers_are_the_same_over_http2_head_included() {
    let bench = Bench::start();
    bench.routes(&[("a.test:https", "http://127.0.0.1:1")]);
    for (accept, content_type) in
        [("*/*", "text/plain"), ("text/html", "text/html"), ("application/json", "application/json")]
    {
        for method in ["GET", "HEAD"] {
            let mut request = request2(method, "a.test", "/");
            request.headers_mut().insert("accept", accept.parse().unwrap());
            let response = bench.https2("a.test").await.send_request(request).await.unwrap();
            let field = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert!(matches!(response.status().as_u16(), 502 | 503), "{response:?}");
            assert!(field("content-type").starts_with(content_type), "{response:?}");
            assert!(!field("roo-error").is_empty() && field("cache-control") == "no-store", "{response:?}");
            let id = field("x-request-id");
            let length: usize = field("content-length").parse().unwrap();
            let body = text(response).await;
            match method {
                "HEAD" => assert!(body.is_empty() && length > 0),
                _ => assert!(body.contains(&id) && body.len() == length && !body.contains("roo"), "{body}"),
            }
        }
    }
}
