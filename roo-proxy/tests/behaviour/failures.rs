//! Upstreams that fail, and what clients are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use roo_proxy::{Config, Event, Route, RouteTable, Timeouts};

use crate::bench::{Authority, Bench, SOON, hasty};
use crate::client::{Raw, field, full, get, raw, request1, request2, status, text};
use crate::upstream::{Upstream, nobody};

async fn failed(bench: &mut Bench) -> (&'static str, String) {
    match tokio::time::timeout(SOON, bench.events.next()).await.unwrap() {
        Some(Event::UpstreamFailed { reason, origin, .. }) => (reason, origin.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dead_upstream_is_502() {
    let mut bench = Bench::start();
    bench.routes(&[("shop.test:http", format!("http://{}", nobody().await))]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-refused")));
    assert_eq!(failed(&mut bench).await, ("upstream-refused", "shop.test:http".into()));
}

#[tokio::test]
async fn a_silent_upstream_is_504() {
    let mut bench = Bench::start();
    let upstream = Upstream::serve(|_| std::future::pending()).await;
    bench.routes(&[("shop.test:http", format!(r#"{{"to":"{}","response_timeout":"50ms"}}"#, upstream.url()))]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (504, Some("upstream-timeout")));
    assert_eq!(failed(&mut bench).await.0, "upstream-timeout");
}

#[tokio::test]
async fn an_upstream_that_closes_is_502() {
    let bench = Bench::start();
    for answer in [&[""][..], &["HTTP/1.1 200"], &["nonsense\r\n\r\n"], &["HTTP/1.1 101 Switching Protocols\r\n\r\n"]] {
        let upstream = Upstream::says(Box::leak(answer.to_vec().into_boxed_slice())).await;
        bench.routes(&[("shop.test:http", upstream.url())]);
        let response = get(bench.http, "shop.test").await;
        assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-reset")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_502() {
    // Nobody answers at the resolver's address either: the wait is bounded all the same.
    let timeouts = Timeouts { connect: Duration::from_millis(200), ..Timeouts::default() };
    let resolver = Some(nobody().await);
    let bench = Bench::with(Config { timeouts, resolver, ..Config::default() });
    bench.routes(&[("shop.test:http", "http://no-such-name.invalid")]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-unresolved")));
}

#[tokio::test]
async fn a_route_without_destination_is_503() {
    let bench = Bench::start();
    bench.control.set_routes(RouteTable::new([("shop.test:http".parse().unwrap(), Route::default())]));
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (503, Some("no-upstream")));
    assert_eq!(field(&response, "retry-after"), Some("1"));
}

#[tokio::test]
async fn an_upstreams_certificate_is_verified() {
    let bench = Bench::start();
    let authority = Authority::new();
    let upstream = Upstream::echo_tls(&authority, &["back.test", "127.0.0.1"]).await;
    let url = format!("https://{}", upstream.address);
    let route = |tls: serde_json::Value| serde_json::json!({ "to": url, "tls": tls }).to_string();
    for (tls, expected) in [
        (serde_json::json!({}), 502),
        (serde_json::json!({ "insecure": true }), 200),
        (serde_json::json!({ "ca": authority.pem() }), 200),
        (serde_json::json!({ "ca": authority.pem(), "server_name": "back.test" }), 200),
        (serde_json::json!({ "ca": authority.pem(), "server_name": "other.test" }), 502),
        (serde_json::json!({ "ca": Authority::new().pem() }), 502),
    ] {
        bench.routes(&[("shop.test:http", route(tls.clone()))]);
        let response = get(bench.http, "shop.test").await;
        assert_eq!(status(&response), expected, "{tls}");
        let reason = (expected == 502).then_some("upstream-tls");
        assert_eq!(field(&response, "roo-error"), reason);
    }
}

#[tokio::test]
async fn tls_to_nobody_who_speaks_it_is_502() {
    let bench = Bench::start();
    let upstream = Upstream::listen(|mut socket| async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    bench.routes(&[("shop.test:http", format!("https://{}", upstream.address))]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-tls")));
}

/// Accepts connections and never says a word.
async fn mute() -> Upstream {
    Upstream::listen(|socket| async move {
        let _socket = socket;
        std::future::pending().await
    })
    .await
}

/// A route to these destinations, with any certificate and a short wait for connections.
fn hasty_route(to: &[String], more: serde_json::Value) -> String {
    let mut route = serde_json::json!({ "to": to, "connect_timeout": "4s", "tls": { "insecure": true } });
    route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    route.to_string()
}

#[tokio::test]
async fn a_destination_that_never_connects_leaves_time_for_the_next() {
    let mut bench = Bench::start();
    let (dead, alive) = (mute().await, Upstream::echo("alive").await);
    // The wait for the answer is shorter than the wait for the dead: they are not the same wait.
    let more = serde_json::json!({ "response_timeout": "1900ms" });
    let to = [format!("https://{}", dead.address), alive.url()];
    bench.routes(&[("shop.test:http", hasty_route(&to, more))]);
    for body in ["", "hello"] {
        let length = body.len();
        let post = format!(
            "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let response = raw(bench.http, &post).await;
        assert_eq!((status(&response), field(&response, "x-upstream")), (200, Some("alive")));
        assert!(response.contains(&format!(r#""body":"{body}""#)), "{response}");
    }
    assert_eq!(dead.connections(), 1);
    assert_eq!(failed(&mut bench).await, ("upstream-timeout", "shop.test:http".into()));
}

#[tokio::test]
async fn a_destination_without_tls_yields_to_the_next() {
    let mut bench = Bench::start();
    let alive = Upstream::echo("alive").await;
    let plain = Upstream::listen(|mut socket| async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let to = [format!("https://{}", plain.address), alive.url()];
    bench.routes(&[("shop.test:http", hasty_route(&to, serde_json::json!({})))]);
    for _ in 0..4 {
        assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    }
    assert_eq!(failed(&mut bench).await.0, "upstream-tls");
}

#[tokio::test]
async fn the_last_of_several_failures_is_the_answer() {
    let bench = Bench::start();
    let (refusing, dead) = (format!("http://{}", nobody().await), mute().await);
    let silent = format!("https://{}", dead.address);
    let more = serde_json::json!({ "connect_timeout": "200ms" });
    bench.routes(&[
        ("a.test:http", hasty_route(&[refusing.clone(), silent.clone()], more.clone())),
        ("b.test:http", hasty_route(&[silent], more)),
    ]);
    for host in ["a.test", "b.test"] {
        let response = get(bench.http, host).await;
        assert_eq!((status(&response), field(&response, "roo-error")), (504, Some("upstream-timeout")), "{host}");
    }
}

/// The first connection answers one request and closes when it has read the second; later ones answer.
async fn stale() -> (Upstream, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, turn) = (requests.clone(), Arc::new(AtomicUsize::new(0)));
    let upstream = Upstream::listen(move |mut socket| {
        let (count, first) = (count.clone(), turn.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            let answers = if first { 1 } else { usize::MAX };
            for _ in 0..answers {
                if crate::upstream::read_head(&mut socket).await.is_empty() {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
            }
            crate::upstream::read_head(&mut socket).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    (upstream, requests)
}

#[tokio::test]
async fn a_get_on_a_stale_connection_is_repeated() {
    let (bench, (upstream, requests)) = (Bench::start(), stale().await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    assert_eq!((upstream.connections(), requests.load(Ordering::SeqCst)), (2, 3));
}

#[tokio::test]
async fn a_get_is_repeated_on_a_new_connection_if_all_kept_ones_are_stale() {
    let (turn, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(2)));
    let upstream = Upstream::listen(move |mut socket| {
        let (is_stale, both) = (turn.fetch_add(1, Ordering::SeqCst) < 2, both.clone());
        async move {
            loop {
                if crate::upstream::read_head(&mut socket).await.is_empty() {
                    return;
                }
                if is_stale {
                    // Neither is free for the other request.
                    both.wait().await;
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
                if is_stale {
                    crate::upstream::read_head(&mut socket).await;
                    return;
                }
            }
        }
    })
    .await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", upstream.url())]);
    let (one, other) = tokio::join!(get(bench.http, "shop.test"), get(bench.http, "shop.test"));
    assert_eq!((status(&one), status(&other)), (200, 200));
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let (bench, (upstream, requests)) = (Bench::start(), stale().await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    let post = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let response = raw(bench.http, post).await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-reset")));
    assert_eq!((upstream.connections(), requests.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn a_get_with_a_body_is_not_repeated_once_lost() {
    let (bench, (upstream, _)) = (Bench::start(), stale().await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    let with_body = "GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert_eq!(status(&raw(bench.http, with_body).await), 502);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_not_ended() {
    let bench = Bench::start();
    let upstream = Upstream::says(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"]).await;
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let response = get(bench.http, "shop.test").await;
    assert!(response.contains("hi") && !response.ends_with("0\r\n\r\n"), "{response}");
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_answer_without_a_length_that_is_reset_is_cut_not_ended() {
    let bench = Bench::start();
    let reset = Arc::new(tokio::sync::Notify::new());
    let told = reset.clone();
    let upstream = Upstream::listen(move |mut socket| {
        let told = told.clone();
        async move {
            crate::upstream::read_head(&mut socket).await;
            tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
            told.notified().await;
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    client.read_until("half").await;
    reset.notify_one();
    let rest = client.rest().await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest}");
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    reset.notify_one();
    assert!(body.collect().await.is_err());
}

#[tokio::test]
async fn what_follows_a_failed_request_is_not_its_body() {
    let bench = Bench::start();
    let upstream = Upstream::says(&["", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    for framing in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let failing = format!("POST / HTTP/1.1\r\nHost: shop.test\r\n{framing}");
        let next = "GET /next HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
        let response = raw(bench.http, &[&failing, next].concat()).await;
        assert!(!response.contains(" 400 "), "{response}");
        assert!(response.ends_with("ok"), "{response}");
    }
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut() {
    let bench = Bench::with(Config { timeouts: hasty(), ..Config::default() });
    let upstream = Upstream::listen(|mut socket| async move {
        crate::upstream::read_head(&mut socket).await;
        let beginning = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning";
        tokio::io::AsyncWriteExt::write_all(&mut socket, beginning).await.unwrap();
        crate::upstream::read_head(&mut socket).await;
    })
    .await;
    bench.routes(&[("shop.test:https", upstream.url())]);
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    let body = tokio::time::timeout(SOON, response.into_body().collect()).await.expect("it should be cut");
    assert!(body.is_err());
}

#[tokio::test]
async fn a_slow_answer_outlives_the_idle_timeouts() {
    let bench = Bench::with(Config { timeouts: hasty(), ..Config::default() });
    let upstream = Upstream::serve(|_: Request<_>| async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        Response::new(full("ok"))
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn a_client_that_stops_sending_its_body_is_408() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", format!(r#"{{"to":"{}","response_timeout":"100ms"}}"#, upstream.url()))]);
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhe").await;
    let response = client.rest().await;
    assert_eq!((status(&response), field(&response, "roo-error")), (408, Some("request-timeout")));
}

#[tokio::test]
async fn a_slow_upload_is_not_a_slow_answer() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", format!(r#"{{"to":"{}","response_timeout":"400ms"}}"#, upstream.url()))]);
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 8\r\nConnection: close\r\n\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("x").await;
    }
    let response = client.rest().await;
    assert!(response.contains(r#""body":"xxxxxxxx""#), "{response}");
}

#[tokio::test]
async fn one_requests_failure_leaves_the_connection_to_others() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("dead.test:http", format!("http://{}", nobody().await))]);
    let mut client = bench.http1().await;
    for (host, expected) in [("dead.test", 502), ("shop.test", 200), ("none.test", 404), ("shop.test", 200)] {
        client.ready().await.unwrap();
        let response = client.send_request(request1("GET", host, "/")).await.unwrap();
        assert_eq!(response.status(), expected);
        text(response).await;
    }
}
