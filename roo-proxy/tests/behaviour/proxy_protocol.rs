//! The PROXY protocol, from balancers and to upstreams.

use std::time::Duration;

use roo_proxy::{Config, Event, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Bench, SOON, hasty};
use crate::client::{Raw, field, get, raw, status};
use crate::upstream::{Upstream, read_head};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
/// Version 2, from 192.0.2.8:4711 to 198.51.100.1:443, with a value that means nothing here.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x08\xc6\x33\x64\x01\x12\x67\x01\xbb\xee\0\x01x";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn bench(from: &str) -> Bench {
    Bench::with(Config { proxy_protocol_from: vec![from.parse().unwrap()], ..Config::default() })
}

/// Whom an upstream is told about, after these bytes and `GET /`.
async fn told(bench: &Bench, header: &[u8]) -> String {
    let mut client = Raw::connect(bench.http).await;
    client.0.write_all(header).await.unwrap();
    client.send(GET).await;
    let response = client.rest().await;
    assert_eq!(status(&response), 200, "{response}");
    let body = response.split("\r\n\r\n").nth(1).unwrap();
    let seen: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(seen["headers"]["x-real-ip"], seen["headers"]["x-forwarded-for"]);
    seen["headers"]["x-forwarded-for"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_listed_peer_says_who_the_client_is() {
    let (bench, upstream) = (bench("127.0.0.0/8"), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    assert_eq!(told(&bench, V1.as_bytes()).await, "192.0.2.7");
    assert_eq!(told(&bench, V2).await, "192.0.2.8");
    assert_eq!(told(&bench, V2_LOCAL).await, "127.0.0.1");
    assert_eq!(told(&bench, b"PROXY UNKNOWN\r\n").await, "127.0.0.1");
    assert_eq!(told(&bench, b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n").await, "2001:db8::7");
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    let (bench, upstream) = (bench("127.0.0.0/8"), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    for (header, address) in [(V1.as_bytes(), "192.0.2.7"), (V2, "192.0.2.8")] {
        let mut client = Raw::connect(bench.http).await;
        client.0.set_nodelay(true).unwrap();
        for byte in [header, GET.as_bytes()].concat() {
            client.0.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let response = client.rest().await;
        assert!(response.contains(&format!(r#""x-forwarded-for":"{address}""#)), "{response}");
    }
}

#[tokio::test]
async fn it_stands_before_tls() {
    let (bench, upstream) = (bench("127.0.0.0/8"), Upstream::echo("a").await);
    bench.routes(&[("shop.test:https", upstream.url())]);
    let mut socket = Raw::connect(bench.https).await.0;
    socket.write_all(V2).await.unwrap();
    let mut stream = bench.tls_on(socket, "shop.test", &[]).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    let response = String::from_utf8(response).unwrap();
    assert!(response.contains(r#""x-forwarded-for":"192.0.2.8""#), "{response}");
}

#[tokio::test]
async fn a_listed_peer_must_send_a_good_one() {
    let (mut bench, upstream) = (bench("127.0.0.0/8"), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
    for start in ["", "PROXY TCP4 nobody\r\n", &long, "\r\n\r\n\0\r\nQUIT\n\x31"] {
        let response = raw(bench.http, &format!("{start}{GET}")).await;
        assert_eq!(response, "", "{start:?}");
    }
    assert_eq!(upstream.connections(), 0);
    let told = tokio::time::timeout(SOON, bench.events.next()).await.unwrap();
    let Some(Event::ProxyHeaderMissing { peer, why }) = told else { panic!("{told:?}") };
    assert_eq!((peer.to_string().as_str(), why.as_str()), ("127.0.0.1", "there is no PROXY header"));
}

#[tokio::test]
async fn one_that_does_not_come_is_not_waited_for() {
    let from = vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()];
    let bench = Bench::with(Config { proxy_protocol_from: from, timeouts: hasty(), ..Config::default() });
    let mut client = Raw::connect(bench.http).await;
    client.send("PROXY TCP4 ").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn from_others_it_is_no_request() {
    let (bench, upstream) = (bench("192.0.2.0/24"), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let response = raw(bench.http, &format!("{V1}{GET}")).await;
    assert_eq!((status(&response), field(&response, "roo-error")), (400, Some("bad-request")));
    assert_eq!(upstream.connections(), 0);
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
}

#[tokio::test]
async fn whom_it_names_is_trusted_or_not() {
    let upstream = Upstream::echo("a").await;
    for (trusted, expected) in [("192.0.2.7/32", "203.0.113.9, 192.0.2.7"), ("127.0.0.1/32", "192.0.2.7")] {
        let bench = Bench::with(Config {
            proxy_protocol_from: vec!["127.0.0.0/8".parse().unwrap()],
            trusted_proxies: vec![trusted.parse().unwrap()],
            timeouts: Timeouts { response: Duration::from_secs(20), ..Timeouts::default() },
            ..Config::default()
        });
        bench.routes(&[("shop.test:http", upstream.url())]);
        let get = GET.replace("\r\nConnection", "\r\nX-Forwarded-For: 203.0.113.9\r\nConnection");
        let response = raw(bench.http, &format!("{V1}{get}")).await;
        assert!(response.contains(&format!(r#""x-forwarded-for":"{expected}""#)), "{response}");
    }
}

/// An upstream that answers each request with the header that its connection began with: of the given length, or a line.
async fn told_by_header(length: Option<usize>) -> Upstream {
    Upstream::listen(move |mut socket| async move {
        let mut header = vec![0; length.unwrap_or_default()];
        socket.read_exact(&mut header).await.unwrap();
        while length.is_none() && !header.ends_with(b"\r\n") {
            header.push(socket.read_u8().await.unwrap());
        }
        let told: String = header.iter().map(|byte| byte.escape_ascii().to_string()).collect();
        while !read_head(&mut socket).await.is_empty() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len());
            if socket.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    })
    .await
}

/// What the upstream was told, after another request of this client.
async fn ask(client: &mut Raw) -> String {
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    let (head, body) = head.split_once("\r\n\r\n").unwrap();
    assert_eq!(status(head), 200);
    let length: usize = field(head, "content-length").unwrap().parse().unwrap();
    let mut body = body.to_owned();
    while body.len() < length {
        body.push(char::from(client.0.read_u8().await.unwrap()));
    }
    body
}

fn line(client: &TcpStream) -> String {
    let (own, proxy) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\\r\\n", own.port(), proxy.port())
}

#[tokio::test]
async fn an_upstream_is_told_of_the_client_and_the_connection_is_the_clients_alone() {
    let (bench, upstream) = (Bench::start(), told_by_header(None).await);
    bench.routes(&[("shop.test:http", serde_json::json!({ "to": upstream.url(), "send_proxy": "v1" }).to_string())]);
    let (mut one, mut two) = (Raw::connect(bench.http).await, Raw::connect(bench.http).await);
    for _ in 0..2 {
        assert_eq!(ask(&mut one).await, line(&one.0));
        assert_eq!(ask(&mut two).await, line(&two.0));
    }
    assert_eq!(upstream.connections(), 2, "each is kept for its client");
}

#[tokio::test]
async fn a_connection_kept_for_a_client_ends_with_it() {
    let closed = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = closed.clone();
    let upstream = Upstream::listen(move |mut socket| {
        let told = told.clone();
        async move {
            read_head(&mut socket).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = socket.read(&mut [0]).await;
            told.notify_one();
        }
    })
    .await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", serde_json::json!({ "to": upstream.url(), "send_proxy": "v1" }).to_string())]);
    let mut client = Raw::connect(bench.http).await;
    assert_eq!(ask(&mut client).await, "");
    drop(client);
    tokio::time::timeout(SOON, closed.notified()).await.expect("the upstream should see the end");
}

#[tokio::test]
async fn version_2_is_binary_and_passes_on_what_a_balancer_said() {
    let (bench, upstream) = (bench("127.0.0.0/8"), told_by_header(Some(28)).await);
    bench.routes(&[("shop.test:http", serde_json::json!({ "to": upstream.url(), "send_proxy": "v2" }).to_string())]);
    let mut client = Raw::connect(bench.http).await;
    client.0.write_all(V2).await.unwrap();
    // What was said besides the addresses is not passed on.
    let expected: Vec<u8> = V2[..14].iter().chain(&[0, 12]).chain(&V2[16..28]).copied().collect();
    assert_eq!(ask(&mut client).await, expected.escape_ascii().to_string());
}
