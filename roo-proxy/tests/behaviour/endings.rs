//! How messages and connections end where something does not go to plan.

use std::sync::Arc;
use std::time::Duration;

use roo_proxy::{Config, Event, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::bench::{Bench, SOON};
use crate::client::{Raw, field, get, status};
use crate::upstream::{Upstream, read_head};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers each request at its head and takes nothing of its body.
async fn early() -> Upstream {
    Upstream::listen(|mut socket| async move {
        while !read_head(&mut socket).await.is_empty() {
            socket.write_all(OK).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_tells_that_nothing_can_follow() {
    let (bench, upstream) = (Bench::start(), early().await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nhalf").await;
    let response = client.rest().await;
    assert_eq!((status(&response), field(&response, "connection")), (200, Some("close")), "{response}");
    assert!(response.ends_with("ok"), "{response}");
}

#[tokio::test]
async fn an_answer_behind_a_whole_request_keeps_the_connection() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nwhole").await;
        let response = client.read_until(r#""body":"whole""#).await;
        assert_eq!(field(&response, "connection"), None, "{response}");
    }
}

/// Reads to the end, and whether that was an orderly one.
async fn ends_well(bench: &Bench) -> bool {
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, client.0.read_to_end(&mut bytes)).await.expect("the proxy should close");
    assert!(read.is_err() || bytes.ends_with(b"hi"), "{}", String::from_utf8_lossy(&bytes));
    read.is_ok()
}

#[tokio::test]
async fn an_answer_that_the_close_delimits_is_reset_where_it_breaks_off() {
    let bench = Bench::start();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
    for (end, well) in [("", false), ("0\r\n\r\n", true), ("x", false)] {
        let answer: &'static str = Box::leak(format!("{head}{end}").into_boxed_str());
        let upstream = Upstream::says(Box::leak(Box::new([answer]))).await;
        bench.routes(&[("shop.test:http", upstream.url())]);
        assert_eq!(ends_well(&bench).await, well, "{end:?}");
    }
}

#[tokio::test]
async fn leave_that_is_never_given_is_the_upstreams_fault() {
    let mut bench = Bench::start();
    let upstream = Upstream::listen(|mut socket| async move {
        read_head(&mut socket).await;
        std::future::pending().await
    })
    .await;
    bench.routes(&[("shop.test:http", format!(r#"{{"to":"{}","response_timeout":"100ms"}}"#, upstream.url()))]);
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    let response = client.rest().await;
    assert_eq!((status(&response), field(&response, "roo-error")), (504, Some("upstream-timeout")));
    told(&mut bench, "upstream-timeout").await;
}

#[tokio::test]
async fn leave_that_was_given_and_not_used_is_the_clients_fault() {
    let bench = Bench::start();
    let upstream = Upstream::listen(|mut socket| async move {
        read_head(&mut socket).await;
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        std::future::pending().await
    })
    .await;
    bench.routes(&[("shop.test:http", format!(r#"{{"to":"{}","response_timeout":"2s"}}"#, upstream.url()))]);
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    let response = client.rest().await;
    assert!(response.starts_with("HTTP/1.1 100 ") && response.contains("HTTP/1.1 408 "), "{response}");
}

async fn told(bench: &mut Bench, expected: &str) {
    match tokio::time::timeout(SOON, bench.events.next()).await.unwrap() {
        Some(Event::UpstreamFailed { reason, .. }) => assert_eq!(reason, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_owner_is_told_of_framing_that_is_broken() {
    let mut bench = Bench::start();
    let upstream = Upstream::says(&["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi"]).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-reset")));
    told(&mut bench, "upstream-reset").await;
}

#[tokio::test]
async fn what_came_with_an_interim_head_is_kept() {
    let bench = Bench::start();
    let seen = Arc::new(Notify::new());
    let go_on = seen.clone();
    let upstream = Upstream::listen(move |mut socket| {
        let go_on = go_on.clone();
        async move {
            read_head(&mut socket).await;
            let (first, rest) = OK.split_at(20);
            let hints = [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", first].concat();
            socket.write_all(&hints).await.unwrap();
            go_on.notified().await;
            socket.write_all(rest).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    client.read_until("103 Early Hints").await;
    seen.notify_one();
    let response = client.rest().await;
    assert!(response.contains("HTTP/1.1 200 OK\r\n") && response.ends_with("ok"), "{response}");
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let bench = Bench::start();
    let upstream = Upstream::listen(|mut socket| async move {
        socket.set_nodelay(true).unwrap();
        read_head(&mut socket).await;
        for byte in [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK].concat() {
            socket.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let response = get(bench.http, "shop.test").await;
    assert!(response.starts_with("HTTP/1.1 103 ") && response.contains("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("ok"), "{response}");
}

#[tokio::test]
async fn half_a_head_behind_a_request_is_408_in_its_time() {
    // A connection between two requests may wait for much longer.
    let timeouts = Timeouts { header: Duration::from_secs(2), ..Timeouts::default() };
    let (bench, upstream) = (Bench::with(Config { timeouts, ..Config::default() }), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\nGET / HTTP/1.1\r\nHo").await;
    let responses = client.rest().await;
    assert!(responses.starts_with("HTTP/1.1 200 ") && responses.contains("HTTP/1.1 408 "), "{responses}");
}
