//! WebSocket and other protocols after HTTP/1.1.

use futures_util::{SinkExt, StreamExt};
use http::Request;
use hyper_util::rt::TokioIo;
use roo_proxy::{Config, Timeouts};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{accept_async, client_async};

use crate::bench::{Bench, SOON, hasty, until};
use crate::client::{Body, Raw, field, full, raw, request2, status};
use crate::upstream::{Upstream, read_head};

async fn echo() -> Upstream {
    Upstream::listen(|socket| async move {
        let Ok(mut socket) = accept_async(socket).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// As `echo`, over HTTP/2 (RFC 8441).
async fn echo_http2() -> Upstream {
    Upstream::streams(100, |request, mut respond| async move {
        assert_eq!(request.method(), "CONNECT");
        assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
        assert_eq!(request.uri(), "http://shop.test/chat");
        assert_eq!(request.headers()["sec-websocket-version"], "13");
        for gone in ["sec-websocket-key", "upgrade", "connection", "content-length"] {
            assert!(!request.headers().contains_key(gone), "{gone}");
        }
        let mut sending = respond.send_response(http::Response::new(()), false).unwrap();
        let mut incoming = request.into_body();
        // What comes in is masked, what goes out is not: only the library can tell.
        let (near, far) = tokio::io::duplex(65_536);
        let (mut from, mut to) = tokio::io::split(far);
        tokio::spawn(async move {
            let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(near, Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(Ok(data)) = incoming.data().await {
                incoming.flow_control().release_capacity(data.len()).unwrap();
                if to.write_all(&data).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            sending.send_data(bytes::Bytes::copy_from_slice(&bytes[..count]), false).unwrap();
        }
        let _ = sending.send_data(bytes::Bytes::new(), true);
    })
    .await
}

type Upgraded = tokio_tungstenite::WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Once the proxy has answered anything, a client knows what it takes.
async fn greeted(sender: &mut hyper::client::conn::http2::SendRequest<Body>) {
    let stranger = sender.send_request(request2("GET", "stranger.test", "/")).await.unwrap();
    assert_eq!(stranger.status(), 404);
}

/// A WebSocket of a client of HTTP/2, or the answer instead of one.
async fn websocket2(sender: &mut hyper::client::conn::http2::SendRequest<Body>) -> Result<Upgraded, u16> {
    greeted(sender).await;
    let mut request =
        Request::connect("https://shop.test/chat").header("sec-websocket-version", "13").body(full("")).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    if response.status() != 200 {
        return Err(response.status().as_u16());
    }
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    Ok(tokio_tungstenite::WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

#[tokio::test]
async fn a_websocket_passes_between_all_versions() {
    let (one, two) = (echo().await, echo_http2().await);
    for url in [one.url(), two.h2c()] {
        let bench = Bench::start();
        bench.routes(&[("shop.test:http", &url), ("shop.test:https", &url)]);
        let plain = tokio::net::TcpStream::connect(bench.http).await.unwrap();
        let (mut plain, _) = client_async("ws://shop.test/chat", plain).await.unwrap();
        let mut sender = bench.https2("shop.test").await;
        let mut first = websocket2(&mut sender).await.unwrap();
        let mut second = websocket2(&mut sender).await.unwrap();
        until("all are open", || bench.control.stats().tunnels == 3).await;
        let large = "x".repeat(100_000);
        for text in ["hello", large.as_str()] {
            assert_eq!(exchange(&mut plain, text).await, text);
            assert_eq!(exchange(&mut first, text).await, text);
            assert_eq!(exchange(&mut second, text).await, text);
        }
        // The end of one is no other's.
        first.close(None).await.unwrap();
        drop(first);
        until("one is gone", || bench.control.stats().tunnels == 2).await;
        assert_eq!(exchange(&mut second, "still here").await, "still here");
        drop((plain, second, sender));
        until("all are gone", || bench.control.stats().tunnels == 0 && bench.control.stats().requests == 0).await;
    }
}

#[tokio::test]
async fn a_silent_websocket_of_http2_ends_and_no_other_stream_with_it() {
    let timeouts = Timeouts { tunnel: Duration::from_secs(3), ..hasty() };
    let (bench, upstream) = (Bench::with(Config { timeouts, ..Config::default() }), echo().await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let mut sender = bench.https2("shop.test").await;
    let (mut talking, mut silent) = (websocket2(&mut sender).await.unwrap(), websocket2(&mut sender).await.unwrap());
    // Longer than any other timeout, until the silent one is cut.
    until("both are open", || bench.control.stats().tunnels == 2).await;
    while bench.control.stats().tunnels == 2 {
        assert_eq!(exchange(&mut talking, "still here").await, "still here");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(tokio::time::timeout(SOON, silent.next()).await.unwrap().is_none_or(|message| message.is_err()));
    assert_eq!(exchange(&mut talking, "still here").await, "still here");
}

#[tokio::test]
async fn only_a_proven_websocket_opens_a_stream() {
    let bench = Bench::start();
    for (answer, code) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502),
        ("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n", 502),
        ("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", 502),
        ("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", 403),
    ] {
        let answers: &'static [&'static str] = Box::leak(Box::new([answer]));
        let upstream = Upstream::says(answers).await;
        bench.routes(&[("shop.test:https", upstream.url())]);
        let mut sender = bench.https2("shop.test").await;
        assert_eq!(websocket2(&mut sender).await.err(), Some(code), "{answer}");
    }
    // To anything else nobody connects.
    let mut sender = bench.https2("shop.test").await;
    greeted(&mut sender).await;
    let mut request = Request::connect("https://shop.test/").body(full("")).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("connect-udp"));
    assert_eq!(sender.send_request(request).await.unwrap().status(), 501);
}

#[tokio::test]
async fn a_websocket_passes_plain_and_over_tls() {
    let (bench, upstream) = (Bench::start(), echo().await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let plain = tokio::net::TcpStream::connect(bench.http).await.unwrap();
    let (mut plain, response) = client_async("ws://shop.test/chat", plain).await.unwrap();
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    let secure = bench.tls("shop.test", &[b"http/1.1"]).await.unwrap();
    let (mut secure, _) = client_async("wss://shop.test/chat", secure).await.unwrap();
    until("both are open", || bench.control.stats().tunnels == 2).await;
    let large = "x".repeat(100_000);
    for text in ["hello", large.as_str()] {
        for reply in [exchange(&mut plain, text).await, exchange(&mut secure, text).await] {
            assert_eq!(reply, text);
        }
    }
    drop((plain, secure));
    until("both are gone", || bench.control.stats().tunnels == 0 && bench.control.stats().connections == 0).await;
}

async fn exchange<S>(socket: &mut tokio_tungstenite::WebSocketStream<S>, text: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.send(Message::text(text)).await.unwrap();
    let reply = tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
    reply.into_text().unwrap().to_string()
}

#[tokio::test]
async fn any_protocol_passes_once_both_agree() {
    let bench = Bench::start();
    let upstream = Upstream::listen(|mut socket| async move {
        let head = read_head(&mut socket).await.to_lowercase();
        assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: custom/1\r\n"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: custom/1\r\n\r\nfirst words";
        socket.write_all(answer).await.unwrap();
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut rest).await.unwrap();
        socket.write_all(&rest).await.unwrap();
    })
    .await;
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client
        .send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: custom/1\r\n\r\n")
        .await;
    let head = client.read_until("first words").await;
    assert_eq!((status(&head), field(&head, "upgrade")), (101, Some("custom/1")));
    client.send("last words").await;
    // Half closed: the other direction goes on.
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "last words");
}

#[tokio::test]
async fn an_upstream_may_decline() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let request = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade, close\r\nUpgrade: custom/1\r\n\r\n";
    assert_eq!(status(&raw(bench.http, request).await), 200);
}

#[tokio::test]
async fn a_silent_tunnel_ends_and_a_talking_one_lives() {
    let timeouts = Timeouts { tunnel: Duration::from_secs(3), ..hasty() };
    let (bench, upstream) = (Bench::with(Config { timeouts, ..Config::default() }), echo().await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let socket = tokio::net::TcpStream::connect(bench.http).await.unwrap();
    let (mut socket, _) = client_async("ws://shop.test/", socket).await.unwrap();
    // Longer than any timeout altogether, shorter than the tunnel's each.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(exchange(&mut socket, "still here").await, "still here");
    }
    until("it is cut", || bench.control.stats().tunnels == 0).await;
}
