//! Which requests are served, and by whom.

use roo_proxy::{Config, Replies, Reply};

use crate::bench::Bench;
use crate::client::{field, get, json, raw, request1, request2, status, text};
use crate::upstream::{Upstream, nobody};

#[tokio::test]
async fn an_http_origin_is_proxied() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("plain.test:http", upstream.url())]);
    let response = get(bench.http, "Plain.Test.").await;
    assert_eq!(status(&response), 200);
    assert_eq!(field(&response, "x-upstream"), Some("a"));
    assert_eq!(field(&response, "x-request-id").map(str::len), Some(32));
}

#[tokio::test]
async fn an_https_origin_is_proxied_over_both_protocols() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let response = bench.https1("shop.test").await.send_request(request1("GET", "shop.test", "/x?y=1")).await.unwrap();
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    let seen = json(response).await;
    assert_eq!((&seen["uri"], &seen["version"]), (&"/x?y=1".into(), &"HTTP/1.1".into()));
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/x?y=1")).await.unwrap();
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    let seen = json(response).await;
    assert_eq!((&seen["uri"], &seen["version"]), (&"/x?y=1".into(), &"HTTP/1.1".into()));
    assert_eq!(seen["headers"]["host"], "shop.test");
}

#[tokio::test]
async fn an_unknown_host_is_404() {
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", "http://127.0.0.1:1")]);
    for host in ["other.test", "shop.tes", "shop.test.evil", "[::1]:80", "127.0.0.1"] {
        let response = get(bench.http, host).await;
        assert_eq!(status(&response), 404, "{host}");
        assert_eq!(field(&response, "roo-error"), Some("unknown-host"));
        assert!(response.contains("Host Not Found"));
        let id = field(&response, "x-request-id").unwrap();
        assert!(response.split("\r\n\r\n").nth(1).unwrap().contains(id));
    }
}

#[tokio::test]
async fn a_name_served_over_https_alone_is_redirected() {
    let bench = Bench::start();
    bench.routes(&[("shop.test:https", "http://127.0.0.1:1"), ("*.wild.test:https", "http://127.0.0.1:1")]);
    let port = bench.https.port();
    let response = raw(bench.http, "POST /a//b?c=d HTTP/1.1\r\nHost: SHOP.test:80\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&response), 308);
    assert_eq!(field(&response, "location"), Some(format!("https://shop.test:{port}/a//b?c=d").as_str()));
    let response = get(bench.http, "a.wild.test").await;
    assert_eq!(field(&response, "location"), Some(format!("https://a.wild.test:{port}/").as_str()));
}

#[tokio::test]
async fn the_redirect_leaves_out_the_default_port() {
    let bench = Bench::with(Config { https_port: Some(443), ..Config::default() });
    bench.routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!(field(&response, "location"), Some("https://shop.test/"));
}

#[tokio::test]
async fn replies_come_before_routes() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("safe.test:https", upstream.url())]);
    let path = "/.well-known/acme-challenge/token-1";
    bench.control.set_replies(Replies::new([(path.to_owned(), Reply::text("token-1.key"))]));
    for host in ["shop.test", "safe.test", "unknown.test", "[::1]"] {
        let response =
            raw(bench.http, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status(&response), 200);
        assert!(response.ends_with("\r\n\r\ntoken-1.key"), "{response}");
        assert!(field(&response, "content-type").unwrap().starts_with("text/plain"));
    }
    let unknown = "GET /.well-known/acme-challenge/other HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&raw(bench.http, unknown).await), 404);
}

#[tokio::test]
async fn the_port_in_host_chooses_among_origins() {
    let bench = Bench::start();
    let (any, own) = (Upstream::echo("any").await, Upstream::echo("own").await);
    bench.routes(&[("shop.test:http", any.url()), ("shop.test:8080:http", own.url())]);
    for (host, name) in
        [("shop.test", "any"), ("shop.test:80", "any"), ("shop.test:8080", "own"), ("shop.test:1", "any")]
    {
        assert_eq!(field(&get(bench.http, host).await, "x-upstream"), Some(name), "{host}");
    }
}

#[tokio::test]
async fn a_wildcard_serves_one_label_and_yields_to_the_exact_name() {
    let bench = Bench::start();
    let (wild, exact) = (Upstream::echo("wild").await, Upstream::echo("exact").await);
    bench.routes(&[("*.shop.test:https", wild.url()), ("api.shop.test:https", exact.url())]);
    for (host, name) in [("www.shop.test", "wild"), ("api.shop.test", "exact")] {
        let response = bench.https1(host).await.send_request(request1("GET", host, "/")).await.unwrap();
        assert_eq!(response.headers()["x-upstream"], name);
    }
    assert!(bench.tls("a.b.shop.test", &[]).await.is_err());
}

#[tokio::test]
async fn a_host_that_the_certificate_does_not_cover_is_misdirected() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("a.test:https", upstream.url()), ("b.test:https", upstream.url())]);
    let response = bench.https1("a.test").await.send_request(request1("GET", "b.test", "/")).await.unwrap();
    assert_eq!(response.status(), 421);
    assert_eq!(response.headers()["roo-error"], "misdirected-request");
    let response = bench.https2("a.test").await.send_request(request2("GET", "b.test", "/")).await.unwrap();
    assert_eq!(response.status(), 421);
}

#[tokio::test]
async fn a_host_that_the_certificate_covers_is_served_on_any_connection() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.only_routes(&[("a.test:https", upstream.url()), ("b.test:https", upstream.url())]);
    let both = bench.authority.issue(&["a.test", "b.test"]);
    bench.control.set_certificates(roo_proxy::Certificates::new([both]));
    let response = bench.https2("a.test").await.send_request(request2("GET", "b.test", "/")).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn destinations_take_turns() {
    let bench = Bench::start();
    let (a, b) = (Upstream::echo("a").await, Upstream::echo("b").await);
    bench.routes(&[("shop.test:http", format!(r#"{{"to":["{}","{}"]}}"#, a.url(), b.url()))]);
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(field(&get(bench.http, "shop.test").await, "x-upstream").unwrap().to_owned());
    }
    assert_eq!(names, ["a", "b", "a", "b"]);
}

#[tokio::test]
async fn turns_go_on_across_a_change_of_other_routes() {
    let bench = Bench::start();
    let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await, Upstream::echo("c").await];
    let route = serde_json::json!({ "to": upstreams.each_ref().map(Upstream::url) }).to_string();
    let mut names = Vec::new();
    for other in ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4"] {
        bench.routes(&[("shop.test:http", route.as_str()), ("other.test:http", other)]);
        names.push(field(&get(bench.http, "shop.test").await, "x-upstream").unwrap().to_owned());
    }
    assert_eq!(names, ["a", "b", "c", "a"]);
}

#[tokio::test]
async fn a_refused_connection_tries_the_next_destination() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    let dead = nobody().await;
    bench.routes(&[("shop.test:http", format!(r#"{{"to":["http://{dead}","{}"]}}"#, upstream.url()))]);
    for _ in 0..4 {
        assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    }
}

#[tokio::test]
async fn the_destinations_path_goes_in_front() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", format!("{}/base/", upstream.url()))]);
    let response = bench.http1().await.send_request(request1("GET", "shop.test", "/x?y=1")).await.unwrap();
    assert_eq!(json(response).await["uri"], "/base/x?y=1");
}

#[tokio::test]
async fn a_table_swap_leaves_live_connections_alone() {
    let bench = Bench::start();
    let (before, after) = (Upstream::echo("before").await, Upstream::echo("after").await);
    bench.routes(&[("shop.test:http", before.url())]);
    let mut client = bench.http1().await;
    let response = client.send_request(request1("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(response.headers()["x-upstream"], "before");
    text(response).await;
    bench.routes(&[("shop.test:http", after.url()), ("other.test:http", before.url())]);
    client.ready().await.unwrap();
    let response = client.send_request(request1("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(response.headers()["x-upstream"], "after");
    text(response).await;
    // The pool outlives the table: the same destination under another origin uses the old connection.
    client.ready().await.unwrap();
    let response = client.send_request(request1("GET", "other.test", "/")).await.unwrap();
    assert_eq!(response.headers()["x-upstream"], "before");
    assert_eq!(before.connections(), 1);
}

#[tokio::test]
async fn several_workers_share_the_ports() {
    let (bench, upstream) = (Bench::with_workers(Config::default(), 3), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    for _ in 0..12 {
        assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    }
}

#[tokio::test]
async fn names_are_resolved() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    let port = upstream.address.port();
    bench.routes(&[
        ("shop.test:http", format!("http://localhost:{port}")),
        ("gone.test:http", "http://no-such-name.invalid".to_owned()),
    ]);
    for _ in 0..4 {
        assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    }
}
