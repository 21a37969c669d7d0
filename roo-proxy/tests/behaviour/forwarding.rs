//! What the upstream sees of a request, and the client of a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roo_proxy::Config;
use tokio::sync::{mpsc, oneshot};

use crate::bench::{Bench, SOON, until};
use crate::client::{Raw, data, field, full, json, raw, request1, request2, status, streamed, text};
use crate::upstream::{Upstream, read_head};

#[tokio::test]
async fn the_forwarding_fields_are_the_proxys_own() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let mut request = request1("GET", "Shop.test", "/");
    for name in ["x-forwarded-for", "x-real-ip", "forwarded", "x-origin-host", "x-request-id"] {
        request.headers_mut().insert(name, "evil".parse().unwrap());
    }
    let response = bench.http1().await.send_request(request).await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let seen = json(response).await;
    let headers = &seen["headers"];
    assert_eq!(headers["host"], "Shop.test");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "Shop.test");
    assert_eq!(headers["x-forwarded-port"], "80");
    assert_eq!(headers["x-real-ip"], "127.0.0.1");
    assert_eq!(headers["x-request-id"], id);
    assert_eq!(headers["x-origin-host"], upstream.address.to_string());
    assert!(!seen.to_string().contains("evil"), "{seen}");
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    let headers = &json(response).await["headers"];
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-port"], "443");
}

#[tokio::test]
async fn a_trusted_proxys_fields_are_kept() {
    let config = Config { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..Config::default() };
    let (bench, upstream) = (Bench::with(config), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut request = request1("GET", "shop.test", "/");
    request.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
    request.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
    request.headers_mut().insert("x-request-id", "outer-1".parse().unwrap());
    let response = bench.http1().await.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "outer-1");
    let headers = &json(response).await["headers"];
    assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-request-id"], "outer-1");
}

#[tokio::test]
async fn the_hop_is_stripped_both_ways() {
    let bench = Bench::start();
    let answer = "HTTP/1.1 200 OK\r\nConnection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Authenticate: Basic\r\nUpgrade: h2\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok";
    let (seen, mut heads) = mpsc::channel(8);
    let upstream = Upstream::listen(move |mut socket| {
        let seen = seen.clone();
        async move {
            seen.send(read_head(&mut socket).await.to_lowercase()).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut socket, answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let request = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 1\r\n\
                   Proxy-Authorization: Basic x\r\nProxy: http://evil\r\nTE: gzip, trailers\r\nExpect: 200-ok\r\n\
                   Upgrade: h2c\r\nX-Own: 1\r\n\r\n";
    let response = raw(bench.http, request).await;
    let head = heads.recv().await.unwrap();
    for gone in ["x-mine", "keep-alive", "proxy", "expect", "upgrade", "close", "gzip"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(head.contains("\r\nx-own: 1\r\n") && head.contains("\r\nte: trailers\r\n"), "{head}");
    assert_eq!(status(&response), 200);
    for gone in ["x-private", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(field(&response, gone), None, "{response}");
    }
    assert_eq!(field(&response, "x-kept"), Some("1"));
}

#[tokio::test]
async fn http2_becomes_http1() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let mut request = request2("POST", "shop.test", "/a?b=c");
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    *request.body_mut() = full("hello");
    let response = bench.https2("shop.test").await.send_request(request).await.unwrap();
    let seen = json(response).await;
    assert_eq!(seen["headers"]["cookie"], "a=1; b=2; c=3");
    assert_eq!(seen["headers"]["host"], "shop.test");
    assert_eq!(seen["uri"], "/a?b=c");
    assert_eq!(seen["body"], "hello");
}

#[tokio::test]
async fn bodies_pass_in_every_framing() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    for (framing, body) in
        [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")]
    {
        for method in ["POST", "GET", "DELETE", "PURGE"] {
            let request =
                format!("{method} / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{framing}\r\n\r\n{body}");
            let response = raw(bench.http, &request).await;
            assert!(response.contains(r#""body":"hello""#), "{method} {framing}: {response}");
            assert!(response.contains(&format!(r#""method":"{method}""#)));
        }
    }
}

#[tokio::test]
async fn ambiguous_framing_is_never_passed_on() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let head = "POST / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n";
    for framing in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: -1",
        "Transfer-Encoding: chunked, x",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 3",
    ] {
        let response = raw(bench.http, &format!("{head}{framing}\r\n\r\nabc")).await;
        assert_eq!((status(&response), field(&response, "connection")), (400, Some("close")), "{framing}: {response}");
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_turn() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let one = "POST /1 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\none";
    let two = "\r\nPOST /2 HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    let last = "GET /3 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
    let response = raw(bench.http, &[one, two, last].concat()).await;
    let places = [r#""body":"one""#, r#""body":"two""#, r#""uri":"/3""#].map(|text| response.find(text));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{response}");
}

#[tokio::test]
async fn http10_keeps_a_connection_when_asked_to() {
    let bench = Bench::start();
    let upstream = Upstream::serve(|_| async { Response::new(full("done")) }).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n").await;
        let response = client.read_until("done").await;
        assert_eq!(field(&response, "connection"), Some("keep-alive"), "{response}");
    }
}

#[tokio::test]
async fn what_an_upstream_says_unasked_is_nobodys() {
    let bench = Bench::start();
    const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let upstream = Upstream::says(&[TWO]).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        let response = client.read_until("ok").await;
        assert!(!response.contains("evil"), "{response}");
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn http10_clients_are_served() {
    let bench = Bench::start();
    let upstream = Upstream::says(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let response = raw(bench.http, "GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200"), "{response}");
    assert!(response.ends_with("\r\n\r\nok"), "{response}");
    assert_eq!(field(&response, "transfer-encoding"), None);
}

#[tokio::test]
async fn a_head_response_keeps_its_length() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let response = raw(bench.http, "HEAD / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&response), 200);
    assert!(field(&response, "content-length").unwrap().parse::<usize>().unwrap() > 0);
    assert!(response.ends_with("\r\n\r\n"));
    let response = bench.https2("shop.test").await.send_request(request2("HEAD", "shop.test", "/")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_304_with_a_length_passes() {
    let bench = Bench::start();
    let upstream = Upstream::says(&["HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n"]).await;
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let response = raw(bench.http, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&response), 304);
    let response = bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/")).await.unwrap();
    assert_eq!((response.status().as_u16(), text(response).await), (304, String::new()));
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let bench = Bench::start();
    let upstream = Upstream::serve(|request: Request<hyper::body::Incoming>| async move {
        // Each frame goes back as it comes.
        let frames =
            request.into_body().into_data_stream().map(|data| data.map(Frame::data).map_err(std::io::Error::other));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    })
    .await;
    bench.routes(&[("shop.test:https", upstream.url())]);
    let (frames, body) = streamed();
    let mut request = request2("POST", "shop.test", "/");
    *request.body_mut() = body;
    let mut client = bench.https2("shop.test").await;
    let talking = async {
        let mut response = client.send_request(request).await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            frames.send(data(word)).await.unwrap();
            let frame = response.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(frames);
        assert!(response.collect().await.unwrap().to_bytes().is_empty());
    };
    tokio::time::timeout(SOON, talking).await.unwrap();
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_takes_the_response() {
    // Less than the response, which in turn is less than what sockets hold: its upstream must not wait either.
    const WINDOW: u32 = 1 << 10;
    // More than the proxy lets a client send before it passes that on.
    const REQUEST: usize = 4 << 20;
    let bench = Bench::start();
    let upstream = Upstream::listen(|mut socket| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let come = read_head(&mut socket).await.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
        // Most of the response at once, and its end after all of the request.
        let answer = "x".repeat(16 << 10);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len() + 4);
        socket.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).await.unwrap();
        let mut request = vec![0; REQUEST - come];
        socket.read_exact(&mut request).await.unwrap();
        socket.write_all(b"done").await.unwrap();
    })
    .await;
    bench.routes(&[("shop.test:https", upstream.url())]);
    let (frames, body) = streamed();
    let mut request = request2("POST", "shop.test", "/");
    request.headers_mut().insert("content-length", REQUEST.into());
    *request.body_mut() = body;
    let stream = bench.tls("shop.test", &[b"h2"]).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let talking = async {
        frames.send(data("x")).await.unwrap();
        let response = client.send_request(request).await.unwrap();
        for _ in 0..REQUEST / 1024 - 1 {
            frames.send(Frame::data(vec![b'x'; 1024].into())).await.unwrap();
        }
        frames.send(Frame::data(vec![b'x'; 1023].into())).await.unwrap();
        drop(frames);
        text(response).await
    };
    let text = tokio::time::timeout(SOON, talking).await.expect("the upload should not wait for the response");
    assert!(text.ends_with("xdone"));
}

#[tokio::test]
async fn a_large_body_passes_both_ways() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let large = "x".repeat(3 << 20);
    let mut request = request1("POST", "shop.test", "/");
    *request.body_mut() = full(large.clone());
    let response = bench.https1("shop.test").await.send_request(request).await.unwrap();
    assert_eq!(json(response).await["body"].as_str().map(str::len), Some(large.len()));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let bench = Bench::start();
    let (seen, mut trailers) = mpsc::channel(1);
    let upstream = Upstream::serve(move |request: Request<hyper::body::Incoming>| {
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect().await.unwrap();
            seen.send(body.trailers().cloned().unwrap_or_default()).await.unwrap();
            let (frames, body) = streamed();
            tokio::spawn(async move {
                let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "2".parse().unwrap())]);
                frames.send(data("ok")).await.unwrap();
                frames.send(Frame::trailers(trailers)).await.unwrap();
            });
            Response::builder().header("trailer", "x-sum").body(body).unwrap()
        }
    })
    .await;
    bench.routes(&[("shop.test:https", upstream.url())]);
    let (frames, body) = streamed();
    let mut request = request2("POST", "shop.test", "/");
    request.headers_mut().insert("trailer", "x-up, x-real-ip".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    *request.body_mut() = body;
    let sending = async {
        let trailers = HeaderMap::from_iter([
            ("x-up".parse().unwrap(), "1".parse().unwrap()),
            ("x-real-ip".parse().unwrap(), "evil".parse().unwrap()),
        ]);
        frames.send(data("hi")).await.unwrap();
        frames.send(Frame::trailers(trailers)).await.unwrap();
        drop(frames);
    };
    let mut client = bench.https2("shop.test").await;
    let (response, ()) = tokio::join!(client.send_request(request), sending);
    let body = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "2");
    let trailers = trailers.recv().await.unwrap();
    assert_eq!(trailers["x-up"], "1");
    assert!(!trailers.contains_key("x-real-ip"));
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n").await;
    client.read_until("100 Continue\r\n\r\n").await;
    client.send("hello").await;
    let response = client.rest().await;
    assert!(response.contains(r#""body":"hello""#), "{response}");
}

#[tokio::test]
async fn interim_responses_pass_and_a_refusal_needs_no_body() {
    const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let bench = Bench::start();
    let upstream = Upstream::says(&[EARLY, EARLY, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"]).await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let response = raw(bench.http, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert!(
        response.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{response}"
    );
    let response = raw(bench.http, "GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    let mut client = Raw::connect(bench.http).await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(status(&client.rest().await), 417);
}

#[tokio::test]
async fn a_client_that_is_gone_cancels_its_upstream() {
    let bench = Bench::start();
    let (asked, mut requests) = mpsc::channel(1);
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let upstream = Upstream::listen(move |mut socket| {
        let (asked, count) = (asked.clone(), count.clone());
        async move {
            read_head(&mut socket).await;
            asked.send(()).await.unwrap();
            // Never answers; the end of the connection is all that is left to read.
            read_head(&mut socket).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    requests.recv().await.unwrap();
    drop(client);
    until("the upstream connection is closed", || closed.load(Ordering::SeqCst) == 1).await;
    let mut client = bench.https2("shop.test").await;
    let response = tokio::spawn(client.send_request(request2("GET", "shop.test", "/")));
    requests.recv().await.unwrap();
    response.abort();
    until("the upstream connection is closed", || closed.load(Ordering::SeqCst) == 2).await;
    until("no request is left", || bench.control.stats().requests == 0).await;
}

#[tokio::test]
async fn connections_are_used_again() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let mut client = bench.https2("shop.test").await;
    for _ in 0..10 {
        let response = client.send_request(request2("GET", "shop.test", "/")).await.unwrap();
        assert_eq!(json(response).await["name"], "a");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn many_requests_run_side_by_side() {
    let bench = Bench::start();
    let (sender, receiver) = oneshot::channel::<()>();
    let gate = futures_util::FutureExt::shared(receiver);
    let upstream = Upstream::serve(move |_| {
        let gate = gate.clone();
        async move {
            let _ = gate.await;
            Response::new(full("ok"))
        }
    })
    .await;
    bench.routes(&[("shop.test:https", upstream.url())]);
    let client = bench.https2("shop.test").await;
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(request2("GET", "shop.test", "/")).await.unwrap().status() })
        })
        .collect();
    until("all are under way", || bench.control.stats().requests == 50).await;
    sender.send(()).unwrap();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    until("all are over", || bench.control.stats().requests == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_quiet_response_is_noticed() {
    let (heard, mut ends) = mpsc::unbounded_channel();
    let upstream = Upstream::listen(move |mut socket| {
        let heard = heard.clone();
        async move {
            read_head(&mut socket).await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: hello\n\n";
            tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
            // Nothing more is said: all there is to hear is the end.
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut [0]).await;
            heard.send(()).unwrap();
        }
    })
    .await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let mut plain = Raw::connect(bench.http).await;
    plain.send("GET /events HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    plain.read_until("data: hello").await;
    drop(plain);
    tokio::time::timeout(SOON, ends.recv()).await.unwrap().unwrap();
    for is_http2 in [false, true] {
        let response = if is_http2 {
            bench.https2("shop.test").await.send_request(request2("GET", "shop.test", "/events")).await
        } else {
            bench.https1("shop.test").await.send_request(request1("GET", "shop.test", "/events")).await
        };
        let mut body = response.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: hello\n\n");
        drop(body);
        tokio::time::timeout(SOON, ends.recv()).await.unwrap().unwrap();
    }
    until("nobody is there", || bench.control.stats().requests == 0).await;
}
