//! Upstreams that are spoken to in HTTP/2, for clients of both versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use roo_proxy::{Config, Timeouts};
use tokio::sync::{mpsc, watch};

use crate::bench::{Bench, SOON, until};
use crate::client::{Body, Raw, data, field, full, json, raw, request1, request2, status, streamed, text};
use crate::upstream::{Upstream, nobody};

/// A proxy with a route over both listeners.
fn bench(route: impl AsRef<str>) -> Bench {
    bench_with(Config::default(), route)
}

fn bench_with(config: Config, route: impl AsRef<str>) -> Bench {
    let bench = Bench::with(config);
    bench.routes(&[("shop.test:http", route.as_ref()), ("shop.test:https", route.as_ref())]);
    bench
}

/// The whole body of a request.
async fn whole(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    (bytes, body.trailers().await.unwrap())
}

fn ok() -> Response<()> {
    Response::new(())
}

/// Answers with a text.
fn say(mut respond: SendResponse<Bytes>, text: impl Into<Bytes>) {
    if let Ok(mut stream) = respond.send_response(ok(), false) {
        let _ = stream.send_data(text.into(), true);
    }
}

#[tokio::test]
async fn the_same_fields_reach_it_from_clients_of_both_versions() {
    let upstream = Upstream::echo_h2c("a").await;
    let bench = bench(format!("{}/base", upstream.h2c()));
    let mut seen = Vec::new();
    let trailed = |mut request: Request<Body>| {
        for (name, value) in [("x-own", "1"), ("te", "trailers"), ("x-real-ip", "6.6.6.6"), ("cookie", "a=1; b=2")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let mut one = bench.http1().await;
    let mut request = trailed(request1("GET", "shop.test", "/a?b=c"));
    for (name, value) in [("connection", "te, x-private"), ("x-private", "evil"), ("keep-alive", "5")] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    seen.push(json(one.send_request(request).await.unwrap()).await);
    let mut two = bench.https2("shop.test").await;
    seen.push(json(two.send_request(trailed(request2("GET", "shop.test", "/a?b=c"))).await.unwrap()).await);
    for seen in seen {
        assert_eq!((&seen["version"], &seen["method"]), (&"HTTP/2.0".into(), &"GET".into()));
        assert_eq!(seen["uri"], "http://shop.test/base/a?b=c");
        let fields = seen["headers"].as_object().unwrap();
        for gone in ["host", "connection", "x-private", "keep-alive", "transfer-encoding", "content-length"] {
            assert!(!fields.contains_key(gone), "{gone}: {seen}");
        }
        for (name, value) in [
            ("x-own", "1"),
            ("te", "trailers"),
            ("cookie", "a=1; b=2"),
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "shop.test"),
        ] {
            assert_eq!(fields[name], value, "{name}: {seen}");
        }
        assert_eq!(fields["x-origin-host"], upstream.address.to_string());
        assert_eq!(fields["x-request-id"].as_str().unwrap().len(), 32);
    }
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let (arrived, mut all) = watch::channel(0);
    let arrived = Arc::new(arrived);
    let upstream = Upstream::streams(200, move |_, respond| {
        let arrived = arrived.clone();
        async move {
            arrived.send_modify(|count| *count += 1);
            arrived.subscribe().wait_for(|count| *count == 40).await.unwrap();
            say(respond, "all are here");
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let two = bench.https2("shop.test").await;
    let requests = (0..40).map(|_| {
        let mut two = two.clone();
        async move { text(two.send_request(request2("GET", "shop.test", "/")).await.unwrap()).await }
    });
    let answers = tokio::time::timeout(SOON, futures_util::future::join_all(requests)).await.unwrap();
    assert!(answers.iter().all(|answer| answer == "all are here"));
    all.wait_for(|count| *count == 40).await.unwrap();
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn what_an_upstream_does_not_allow_at_once_goes_by_another_connection() {
    let (arrived, _all) = watch::channel(0);
    let arrived = Arc::new(arrived);
    let upstream = Upstream::streams(1, move |request, respond| {
        let arrived = arrived.clone();
        async move {
            if request.uri().path() == "/wait" {
                arrived.send_modify(|count| *count += 1);
                arrived.subscribe().wait_for(|count| *count == 3).await.unwrap();
            }
            say(respond, "done");
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let two = bench.https2("shop.test").await;
    let requests = (0..3).map(|_| {
        let mut two = two.clone();
        async move { text(two.send_request(request2("POST", "shop.test", "/wait")).await.unwrap()).await }
    });
    let answers = tokio::time::timeout(SOON, futures_util::future::join_all(requests)).await.unwrap();
    assert_eq!(answers, ["done", "done", "done"]);
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn over_tls_it_is_agreed_on_in_the_handshake() {
    let bench = Bench::start();
    let speaks = Upstream::echo_h2(&bench.authority, &["backend.test"], &[b"http/1.1", b"h2"]).await;
    let speaks_not = Upstream::echo_tls(&bench.authority, &["backend.test"]).await;
    let route = |upstream: &Upstream| {
        serde_json::json!({
            "to": format!("https://{}", upstream.address), "protocol": "h2",
            "tls": {"ca": bench.authority.pem(), "server_name": "backend.test"},
        })
        .to_string()
    };
    bench.routes(&[("shop.test:http", route(&speaks)), ("other.test:http", route(&speaks_not))]);
    let seen = json(bench.http1().await.send_request(request1("GET", "shop.test", "/")).await.unwrap()).await;
    assert_eq!((&seen["version"], &seen["uri"]), (&"HTTP/2.0".into(), &"https://shop.test/".into()));
    let answer = raw(bench.http, "GET / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!((status(&answer), field(&answer, "roo-error")), (502, Some("upstream-tls")));
}

#[tokio::test]
async fn bodies_and_trailers_stream_both_ways() {
    // Gives back each piece as it comes, and the trailers as trailers.
    let upstream = Upstream::streams(100, |request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(ok(), false).unwrap();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        stream.send_trailers(body.trailers().await.unwrap().unwrap_or_default()).unwrap();
    })
    .await;
    let bench = bench(upstream.h2c());
    let (mut one, mut two) = (bench.http1().await, bench.https2("shop.test").await);
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    for is_http2 in [false, true] {
        let (sender, body) = streamed();
        let mut request =
            if is_http2 { request2("POST", "shop.test", "/") } else { request1("POST", "shop.test", "/") };
        *request.body_mut() = body;
        // The client here sends no others.
        request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
        let sent = if is_http2 { two.send_request(request).await } else { one.send_request(request).await };
        let mut response = sent.unwrap().into_body();
        for piece in ["one", "two", "three"] {
            sender.send(data(piece)).await.unwrap();
            let frame = tokio::time::timeout(SOON, response.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        sender.send(Frame::trailers(trailers.clone())).await.unwrap();
        drop(sender);
        let last = tokio::time::timeout(SOON, response.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap(), trailers);
        assert!(response.frame().await.is_none());
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let upstream = Upstream::streams(100, |request, mut respond| async move {
        let length: usize = request.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let (bytes, _) = whole(request.into_body()).await;
        assert_eq!(bytes.len(), length);
        let head = Response::builder().header("content-length", length).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        let mut left = Bytes::from(bytes);
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
            stream.send_data(left.split_to(room.min(left.len())), left.is_empty()).unwrap();
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let (mut one, mut two) = (bench.http1().await, bench.https2("shop.test").await);
    let large: Bytes = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut request = request1("PUT", "shop.test", "/");
    *request.body_mut() = full(large.clone());
    let response = one.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-length"], "3000000");
    assert!(response.into_body().collect().await.unwrap().to_bytes() == large);
    let mut request = request2("PUT", "shop.test", "/");
    *request.body_mut() = full(large.clone());
    let response = two.send_request(request).await.unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes() == large);
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_with_its_body() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let upstream = Upstream::streams(100, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if turn.is_multiple_of(2) {
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            let (bytes, _) = whole(request.into_body()).await;
            say(respond, bytes);
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    // The first connection refuses it: there is no other, so it is for the next address, of which there is none.
    let mut one = bench.http1().await;
    let mut request = request1("POST", "shop.test", "/");
    *request.body_mut() = full("once more");
    assert_eq!(one.send_request(request).await.unwrap().status(), 502);
    let mut two = bench.https2("shop.test").await;
    assert_eq!(two.send_request(request2("GET", "shop.test", "/")).await.unwrap().status(), 200);
    let mut request = request2("POST", "shop.test", "/");
    *request.body_mut() = full("once more");
    assert_eq!(text(two.send_request(request).await.unwrap()).await, "once more");
    assert_eq!(tries.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_connection_that_goes_away_finishes_what_it_has_begun() {
    // Each connection takes one request and says that it goes away before it answers.
    let upstream = Upstream::listen(|socket| async move {
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            connection.graceful_shutdown();
            tokio::spawn(async move {
                let (bytes, _) = whole(request.into_body()).await;
                say(respond, bytes);
            });
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let two = bench.https2("shop.test").await;
    let requests = (0..20).map(|_| {
        let mut two = two.clone();
        let mut request = request2("POST", "shop.test", "/");
        *request.body_mut() = full("not lost");
        async move { text(two.send_request(request).await.unwrap()).await }
    });
    let answers = tokio::time::timeout(SOON, futures_util::future::join_all(requests)).await.unwrap();
    assert!(answers.iter().all(|answer| answer == "not lost"), "{answers:?}");
    let mut two = two;
    let mut request = request2("POST", "shop.test", "/");
    *request.body_mut() = full("later");
    assert_eq!(text(two.send_request(request).await.unwrap()).await, "later");
}

#[tokio::test]
async fn what_may_have_been_processed_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let upstream = Upstream::listen(move |socket| {
        let count = count.clone();
        async move {
            let Ok(mut connection) = h2::server::handshake(socket).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                match request.uri().path() {
                    // The connection breaks, with the request on it.
                    "/break" => {
                        count.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    _ => say(respond, "fine"),
                }
            }
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let mut two = bench.https2("shop.test").await;
    for (method, times) in [("POST", 1), ("GET", 2)] {
        seen.store(0, Ordering::SeqCst);
        assert_eq!(two.send_request(request2("GET", "shop.test", "/")).await.unwrap().status(), 200);
        let response = two.send_request(request2(method, "shop.test", "/break")).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["roo-error"]),
            (502.try_into().unwrap(), &"upstream-reset".parse().unwrap())
        );
        assert_eq!(seen.load(Ordering::SeqCst), times, "{method}");
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_with_its_reason() {
    let (read, _) = watch::channel(0);
    let (read, turn) = (Arc::new(read), Arc::new(AtomicUsize::new(0)));
    let reads = read.clone();
    let upstream = Upstream::streams(100, move |_, mut respond| {
        let (mut read, turn) = (read.subscribe(), turn.fetch_add(1, Ordering::SeqCst));
        async move {
            let mut stream = respond.send_response(ok(), false).unwrap();
            stream.send_data("some".into(), false).unwrap();
            read.wait_for(|read| *read > turn).await.unwrap();
            stream.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let mut two = bench.https2("shop.test").await;
    let mut body = two.send_request(request2("GET", "shop.test", "/")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
    reads.send_replace(1);
    let fault = tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap_err();
    let source = std::error::Error::source(&fault).unwrap().downcast_ref::<h2::Error>().unwrap();
    assert_eq!(source.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    let mut one = Raw::connect(bench.http).await;
    one.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    one.read_until("some").await;
    reads.send_replace(2);
    // It breaks off: no chunk says that this was all.
    assert_eq!(one.rest().await.trim(), "");
}

#[tokio::test]
async fn an_upstream_hears_that_its_client_has_gone() {
    let (heard, mut reasons) = mpsc::unbounded_channel();
    let (came, mut arrivals) = mpsc::unbounded_channel();
    let upstream = Upstream::streams(100, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let (heard, came) = (heard.clone(), came.clone());
        async move {
            came.send(()).unwrap();
            if request.uri().path() == "/begun" {
                let mut stream = respond.send_response(ok(), false).unwrap();
                // It may have heard already.
                let _ = stream.send_data("some".into(), false);
                heard.send(std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap()).unwrap();
            } else {
                heard.send(std::future::poll_fn(|context| respond.poll_reset(context)).await.unwrap()).unwrap();
            }
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let two = bench.https2("shop.test").await;
    for path in ["/begun", "/waiting"] {
        let mut raw = Raw::connect(bench.http).await;
        raw.send(&format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        tokio::time::timeout(SOON, arrivals.recv()).await.unwrap();
        if path == "/begun" {
            raw.read_until("some").await;
        }
        drop(raw);
        assert_eq!(tokio::time::timeout(SOON, reasons.recv()).await.unwrap(), Some(Reason::CANCEL), "{path}");
        let mut client = two.clone();
        let request = tokio::spawn(async move {
            let response = client.send_request(request2("GET", "shop.test", path)).await.unwrap();
            response.into_body().collect().await.map(drop)
        });
        tokio::time::timeout(SOON, arrivals.recv()).await.unwrap();
        request.abort();
        assert_eq!(tokio::time::timeout(SOON, reasons.recv()).await.unwrap(), Some(Reason::CANCEL), "{path}");
        until("it is over", || bench.control.stats().requests == 0).await;
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_slow_reader_stops_its_upstream_and_no_one_else() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let upstream = Upstream::streams(200, move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let count = count.clone();
        async move {
            if request.uri().path() != "/endless" {
                return say(respond, "quick");
            }
            let mut stream = respond.send_response(ok(), false).unwrap();
            loop {
                stream.reserve_capacity(16_384);
                match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                    Some(Ok(room)) => {
                        let room = room.min(16_384);
                        count.fetch_add(room, Ordering::SeqCst);
                        if stream.send_data(vec![b'x'; room].into(), false).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = bench.https2("shop.test").await;
        let response = client.send_request(request2("GET", "shop.test", "/endless")).await.unwrap();
        slow.push((client, response));
    }
    // None of them reads. What the upstream could send comes to a stop.
    let mut before = 0;
    until("it stands still", || {
        let now = sent.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        now > 0 && std::mem::replace(&mut before, now) == now
    })
    .await;
    // The windows of stream and client, what lies between, and no more.
    assert!(before < 20 * 4_000_000, "{before}");
    assert_eq!(upstream.connections(), 1);
    let mut quick = bench.https2("shop.test").await;
    for _ in 0..10 {
        assert_eq!(text(quick.send_request(request2("GET", "shop.test", "/")).await.unwrap()).await, "quick");
    }
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_stops_its_client() {
    let (go, gone) = watch::channel(false);
    let upstream = Upstream::streams(100, move |request, respond| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|gone| *gone).await.unwrap();
            let (bytes, _) = whole(request.into_body()).await;
            say(respond, bytes.len().to_string());
        }
    })
    .await;
    let bench = bench(upstream.h2c());
    let (sender, body) = streamed();
    let mut request = request2("POST", "shop.test", "/");
    *request.body_mut() = body;
    let mut two = bench.https2("shop.test").await;
    let response = tokio::spawn(async move { text(two.send_request(request).await.unwrap()).await });
    let mut sent = 0;
    // Until there is no room any more, in both windows and all buffers between.
    while tokio::time::timeout(Duration::from_secs(1), sender.reserve()).await.is_ok_and(|permit| {
        permit.unwrap().send(Frame::data(vec![b'x'; 65_536].into()));
        true
    }) {
        sent += 65_536;
        assert!(sent < 20_000_000, "nothing holds the client up");
    }
    go.send(true).unwrap();
    drop(sender);
    assert_eq!(tokio::time::timeout(SOON, response).await.unwrap().unwrap(), sent.to_string());
}

#[tokio::test]
async fn interim_responses_reach_clients_of_http1() {
    let upstream = Upstream::streams(100, |request, mut respond| async move {
        let early = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        respond.send_informational(early).unwrap();
        if request.headers().contains_key("expect") {
            respond.send_informational(Response::builder().status(100).body(()).unwrap()).unwrap();
        }
        let (bytes, _) = whole(request.into_body()).await;
        say(respond, bytes);
    })
    .await;
    let bench = bench(upstream.h2c());
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let interim = client.read_until("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"), "{interim}");
    client.send("body").await;
    assert!(client.read_until("body").await.contains("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_head_and_nothing_else_is_passed_on_as_that() {
    let upstream =
        Upstream::streams(100, |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let head = match request.uri().path() {
                "/head" => Response::builder().header("content-length", "7"),
                "/304" => Response::builder().status(304).header("etag", "x"),
                "/204" => Response::builder().status(204),
                _ => Response::builder(),
            };
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        })
        .await;
    let bench = bench(upstream.h2c());
    for (method, path, code, length) in [
        ("HEAD", "/head", 200, Some("7")),
        ("GET", "/304", 304, None),
        ("GET", "/204", 204, None),
        ("GET", "/none", 200, None),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
        let answer = raw(bench.http, &request).await;
        assert_eq!((status(&answer), field(&answer, "content-length")), (code, length), "{path}: {answer}");
        let mut two = bench.https2("shop.test").await;
        let response = two.send_request(request2(method, "shop.test", path)).await.unwrap();
        assert_eq!(response.status(), code);
        let shown = response.headers().get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!(shown, length, "{path}");
        assert!(http_body::Body::is_end_stream(response.body()), "{path}");
    }
}

#[tokio::test]
async fn a_connection_that_answers_nothing_gets_nothing_new() {
    // The first connection takes a request and falls silent; those after it answer.
    let turn = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::listen(move |socket| {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        async move {
            let Ok(mut connection) = h2::server::handshake(socket).await else { return };
            while let Some(Ok((_, respond))) = connection.accept().await {
                if turn == 0 {
                    return std::future::pending().await;
                }
                say(respond, "alive");
            }
        }
    })
    .await;
    let timeouts = Timeouts { response: Duration::from_secs(2), idle: Duration::from_secs(5), ..Timeouts::default() };
    let bench = bench_with(Config { timeouts, ..Config::default() }, upstream.h2c());
    let mut two = bench.https2("shop.test").await;
    let response = two.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["roo-error"]),
        (504.try_into().unwrap(), &"upstream-timeout".parse().unwrap())
    );
    let response = two.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    assert_eq!(text(response).await, "alive");
}

#[tokio::test]
async fn unused_connections_are_closed() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let upstream = Upstream::listen(move |socket| {
        let ended = ended.clone();
        async move {
            let Ok(mut connection) = h2::server::handshake(socket).await else { return };
            while let Some(Ok((_, respond))) = connection.accept().await {
                say(respond, "fine");
            }
            ended.send(()).unwrap();
        }
    })
    .await;
    let timeouts = Timeouts { idle_upstream: Duration::from_millis(200), ..Timeouts::default() };
    let bench = bench_with(Config { timeouts, ..Config::default() }, upstream.h2c());
    let mut one = bench.http1().await;
    assert_eq!(text(one.send_request(request1("GET", "shop.test", "/")).await.unwrap()).await, "fine");
    tokio::time::timeout(SOON, ends.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_that_does_not_speak_it_or_is_not_there_is_told_apart() {
    let speaks_not = Upstream::echo("a").await;
    for (route, reason) in
        [(speaks_not.h2c(), "upstream-reset"), (format!("h2c://{}", nobody().await), "upstream-refused")]
    {
        let bench = bench(route);
        let answer = raw(bench.http, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
        assert_eq!((status(&answer), field(&answer, "roo-error")), (502, Some(reason)));
    }
}

#[tokio::test]
async fn an_upstream_that_takes_no_request_is_not_asked_for_connections_without_end() {
    let upstream = Upstream::listen(|socket| async move {
        let Ok(mut connection) =
            h2::server::Builder::new().max_concurrent_streams(0).handshake::<_, Bytes>(socket).await
        else {
            return;
        };
        while let Some(Ok(_)) = connection.accept().await {}
    })
    .await;
    let bench = bench(upstream.h2c());
    assert_eq!(status(&raw(bench.http, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await), 502);
    assert!(upstream.connections() <= 3, "{}", upstream.connections());
}
