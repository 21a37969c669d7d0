//! Bounds that clients meet.

use std::time::Duration;

use roo_proxy::{Config, Limits, Timeouts};

use crate::bench::{Bench, hasty, until};
use crate::client::{Raw, data, field, get, raw, request1, request2, status, streamed, text};
use crate::upstream::Upstream;

#[tokio::test]
async fn too_many_header_bytes_are_431() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let with = |bytes: usize| {
        let filler = "x".repeat(bytes);
        format!("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nX-Filler: {filler}\r\n\r\n")
    };
    assert_eq!(status(&raw(bench.http, &with(60 << 10)).await), 200);
    let response = raw(bench.http, &with(65 << 10)).await;
    assert_eq!((status(&response), field(&response, "roo-error")), (431, Some("header-too-large")));
    assert_eq!(status(&raw(bench.http, &with(300 << 10)).await), 431);
    let mut request = request2("GET", "shop.test", "/");
    request.headers_mut().insert("x-filler", "x".repeat(65 << 10).parse().unwrap());
    let response = bench.https2("shop.test").await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 431);
}

#[tokio::test]
async fn more_header_bytes_may_be_allowed() {
    let limits = Limits { header_bytes: 1 << 20, ..Limits::default() };
    let bench = Bench::with(Config { limits, ..Config::default() });
    bench.routes(&[("shop.test:https", "http://127.0.0.1:1")]);
    let mut client = bench.https2("shop.test").await;
    for _ in 0..20 {
        // No upstream of ours would take as much.
        let mut request = request2("GET", "unknown.test", "/");
        request.headers_mut().insert("x-filler", "X".repeat(1_000 << 10).parse().unwrap());
        let response = client.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), text(response).await.is_empty()), (404, false));
    }
}

#[tokio::test]
async fn too_many_fields_are_431_whatever_their_size() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    for (count, expected) in [(60, 200), (200, 431)] {
        let lines: String = (0..count).map(|at| format!("X-{at}: a\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{lines}\r\n");
        assert_eq!(status(&raw(bench.http, &request).await), expected);
        let mut request = request2("GET", "shop.test", "/");
        for _ in 0..count {
            request.headers_mut().append("x-own", "a".parse().unwrap());
        }
        let response = bench.https2("shop.test").await.send_request(request).await.unwrap();
        assert_eq!(response.status(), expected);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let bench = Bench::with(Config { limits, ..Config::default() });
    let held = [Raw::connect(bench.http).await, Raw::connect(bench.https).await];
    until("both are in", || bench.control.stats().connections == 2).await;
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (503, Some("too-many-connections")));
    assert_eq!(field(&response, "retry-after"), Some("1"));
    assert_eq!(Raw::connect(bench.https).await.rest().await, "");
    drop(held);
    until("there is room again", || bench.control.stats().connections == 0).await;
    assert_eq!(status(&get(bench.http, "shop.test").await), 404);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let bench = Bench::with(Config { timeouts: hasty(), ..Config::default() });
    assert_eq!(Raw::connect(bench.http).await.rest().await, "");
    until("it is gone", || bench.control.stats().connections == 0).await;
}

#[tokio::test]
async fn half_a_head_is_408() {
    let bench = Bench::with(Config { timeouts: hasty(), ..Config::default() });
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop").await;
    let response = client.rest().await;
    assert_eq!((status(&response), field(&response, "roo-error")), (408, Some("request-timeout")));
}

#[tokio::test]
async fn a_dripping_head_is_closed() {
    let bench = Bench::with(Config { timeouts: hasty(), ..Config::default() });
    let mut client = Raw::connect(bench.http).await;
    let dripping = async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut client.0, b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = until("it is gone", || bench.control.stats().connections == 0);
    let connected = async {
        until("it is in", || bench.control.stats().connections == 1).await;
        gone.await;
    };
    tokio::select! {
        () = dripping => until("it is gone", || bench.control.stats().connections == 0).await,
        () = connected => {}
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_between_requests() {
    let (bench, upstream) = (Bench::with(Config { timeouts: hasty(), ..Config::default() }), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let mut one = bench.https1("shop.test").await;
    text(one.send_request(request1("GET", "shop.test", "/")).await.unwrap()).await;
    let mut two = bench.https2("shop.test").await;
    text(two.send_request(request2("GET", "shop.test", "/")).await.unwrap()).await;
    until("both are closed", || one.is_closed() && two.is_closed()).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let bench = Bench::with(Config { timeouts: hasty(), ..Config::default() });
    let upstream = Upstream::serve(|_| async { http::Response::new(crate::client::full("x".repeat(64 << 20))) }).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    until("the request is under way", || bench.control.stats().requests == 1).await;
    until("it is cut", || bench.control.stats().connections == 0).await;
}

#[tokio::test]
async fn an_unused_upstream_connection_is_closed() {
    let timeouts = Timeouts { idle_upstream: Duration::from_millis(100), ..Timeouts::default() };
    let bench = Bench::with(Config { timeouts, ..Config::default() });
    let (closed, mut closings) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::listen(move |mut socket| {
        let closed = closed.clone();
        async move {
            crate::upstream::read_head(&mut socket).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
            assert_eq!(crate::upstream::read_head(&mut socket).await, "");
            closed.send(()).await.unwrap();
        }
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    tokio::time::timeout(crate::bench::SOON, closings.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn small_messages_keep_a_connection_of_http2() {
    let upstream = Upstream::serve(|_| async {
        let (sender, body) = streamed();
        tokio::spawn(async move {
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if sender.send(data("tick")).await.is_err() {
                    return;
                }
            }
        });
        http::Response::new(body)
    })
    .await;
    let timeouts = Timeouts { body: Duration::from_secs(2), ..Timeouts::default() };
    let bench = Bench::with(Config { timeouts, ..Config::default() });
    bench.routes(&[("shop.test:https", upstream.url())]);
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(text(response).await, "tick".repeat(40));
}
