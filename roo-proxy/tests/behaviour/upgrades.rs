//! WebSocket and other protocols after HTTP/1.1.

use futures_util::{SinkExt, StreamExt};
use roo_proxy::{Config, Timeouts};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::bench::{Bench, SOON, hasty, until};
use crate::client::{Raw, field, raw, status};
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
    let timeouts = Timeouts { tunnel: Duration::from_millis(500), ..hasty() };
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
