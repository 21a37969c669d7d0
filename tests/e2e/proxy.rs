//! What the proxy does with requests.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::support::api::{request, send};
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

/// A ready node with `name` routed to `destination` and its certificate at hand.
async fn serving(context: &Context, name: &str, destination: &str) -> Result<(Node, Https)> {
    let node = Start::new(context, "node").spawn().await?;
    node.ready().await?;
    node.route(&format!("{name}:https"), destination).await?;
    let https = node.https_client().await?;
    until("the first handshake", async || https.connect(node.https, name, &["http/1.1"]).await.map(drop)).await?;
    Ok((node, https))
}

#[tokio::test]
async fn http1_and_http2_reach_the_upstream_with_forwarding_headers() -> Result<()> {
    let context = Context::new();
    let upstream = Upstream::echo().await?;
    let (node, https) = serving(&context, "echo.localhost", &format!("{}/base", upstream.url())).await?;
    let mut asked = request(Method::GET, "echo.localhost", "/path?q=1", "");
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("connection", "x-secret-hop"),
        ("x-secret-hop", "1"),
        ("te", "gzip"),
        ("x-kept", "yes"),
    ] {
        asked.headers_mut().insert(name, value.parse()?);
    }
    let answer = https.send(node.https, "echo.localhost", asked).await?;
    let seen = answer.text().to_lowercase();
    ensure!(answer.status == 200 && seen.starts_with("get /base/path?q=1 "), "{answer:?}");
    for line in [
        "host: echo.localhost",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: https",
        "x-kept: yes",
        "x-real-ip: 127.0.0.1",
    ] {
        ensure!(seen.lines().any(|l| l == line), "no `{line}` in\n{seen}");
    }
    for part in ["6.6.6.6", "x-secret-hop", "te: gzip"] {
        ensure!(!seen.contains(part), "`{part}` got through:\n{seen}");
    }
    ensure!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    let mut alias = request(Method::GET, "echo.localhost", "/", "");
    alias.headers_mut().insert("x_forwarded_for", "6.6.6.6".parse()?);
    let answer = https.send(node.https, "echo.localhost", alias).await?;
    ensure!(answer.status == 400 && answer.header("roo-error") == "bad-request", "{answer:?}");

    let asked = Request::builder()
        .uri("https://echo.localhost/two")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Bytes::new())?;
    let answer = https.send_h2(node.https, "echo.localhost", asked).await?;
    let seen = answer.text().to_lowercase();
    ensure!(seen.starts_with("get /base/two http/1.1"), "{seen}");
    ensure!(seen.contains("cookie: a=1; b=2") && seen.contains("host: echo.localhost"), "{seen}");
    Ok(())
}

#[tokio::test]
async fn large_bodies_pass_both_ways() -> Result<()> {
    let context = Context::new();
    let upstream = Upstream::serve(|request: Request<hyper::body::Incoming>| async move {
        use http_body_util::BodyExt;
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Response::new(Full::new(body))
    })
    .await?;
    let (node, https) = serving(&context, "body.localhost", &upstream.url()).await?;
    let body: Bytes = (0..8_000_000_u32).map(|k| (k % 251) as u8).collect::<Vec<u8>>().into();
    let answer =
        https.send(node.https, "body.localhost", request(Method::POST, "body.localhost", "/", body.clone())).await?;
    ensure!(answer.body == body, "{} bytes came back", answer.body.len());
    let asked = Request::builder().method("POST").uri("https://body.localhost/").body(body.clone())?;
    let answer = https.send_h2(node.https, "body.localhost", asked).await?;
    ensure!(answer.body == body, "{} bytes came back", answer.body.len());
    Ok(())
}

#[tokio::test]
async fn websockets_pass() -> Result<()> {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut socket = tokio_tungstenite::accept_async(stream).await?;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await?;
            }
        }
        anyhow::Ok(())
    });
    let (node, https) = serving(&context, "ws.localhost", &format!("http://{upstream}")).await?;
    let stream = https.connect(node.https, "ws.localhost", &["http/1.1"]).await?;
    let (mut socket, _) = tokio_tungstenite::client_async("wss://ws.localhost/chat", stream).await?;
    for k in 0..10 {
        socket.send(Message::text(format!("message {k}"))).await?;
        let answer = socket.next().await.ok_or_else(|| anyhow::anyhow!("closed"))??;
        ensure!(answer.to_text()? == format!("message {k}"), "{answer:?}");
    }
    socket.close(None).await?;
    server.abort();
    Ok(())
}

#[tokio::test]
async fn only_routed_names_are_served() -> Result<()> {
    let context = Context::new();
    let upstream = Upstream::saying("here").await?;
    let (node, https) = serving(&context, "known.localhost", &upstream.url()).await?;
    node.route("other.localhost:https", &upstream.url()).await?;
    node.route("plain.localhost:http", &upstream.url()).await?;

    let error = https.connect(node.https, "unknown.localhost", &["http/1.1"]).await.err();
    let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(text.to_lowercase().contains("unrecogni"), "an unknown name got: {text}");
    ensure!(https.connect(node.https, "127.0.0.1", &["http/1.1"]).await.is_err(), "no SNI was accepted");

    for (sni, host, status, reason) in [
        ("known.localhost", "unknown.localhost", 404, "unknown-host"),
        ("known.localhost", "other.localhost", 421, "misdirected-request"),
        ("known.localhost", "known.localhost", 200, ""),
    ] {
        let answer = https.send(node.https, sni, request(Method::GET, host, "/", "")).await?;
        ensure!(answer.status == status && answer.header("roo-error") == reason, "{host}: {answer:?}");
    }

    let answer = send(node.http, request(Method::GET, "known.localhost", "/a?b", "")).await?;
    let target = format!("https://known.localhost:{}/a?b", node.https.port());
    ensure!(answer.status == 308 && answer.header("location") == target, "{answer:?}");
    let plain = async || {
        let answer = send(node.http, request(Method::GET, "plain.localhost", "/", "")).await?;
        ensure!(answer.status == 200 && answer.text() == "here", "{answer:?}");
        Ok(())
    };
    until("the plain route is live", plain).await?;
    let answer = send(node.http, request(Method::GET, "unknown.localhost", "/", "")).await?;
    ensure!(answer.status == 404 && answer.header("roo-error") == "unknown-host", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_failing_upstream_has_a_reason() -> Result<()> {
    let context = Context::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (node, https) = serving(&context, "down.localhost", &format!("http://{closed}")).await?;
    let answer = https.get(node.https, "down.localhost", "/").await?;
    ensure!(answer.status == 502 && answer.header("roo-error") == "upstream-refused", "{answer:?}");
    ensure!(answer.text().contains(answer.header("x-request-id")), "{answer:?}");

    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let route = serde_json::json!({ "to": [format!("http://{}", silent.local_addr()?)], "response_timeout": "300ms" });
    node.route("slow.localhost:https", &route.to_string()).await?;
    let answer = until("slow", async || https.get(node.https, "slow.localhost", "/").await).await?;
    ensure!(answer.status == 504 && answer.header("roo-error") == "upstream-timeout", "{answer:?}");

    // With one destination down, the other answers every request.
    let upstream = Upstream::saying("alive").await?;
    let route = serde_json::json!({ "to": [format!("http://{closed}"), upstream.url()] });
    node.route("half.localhost:https", &route.to_string()).await?;
    for _ in 0..6 {
        let answer = until("half", async || https.get(node.https, "half.localhost", "/").await).await?;
        ensure!(answer.text() == "alive", "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn upstreams_may_speak_https_and_are_verified() -> Result<()> {
    let context = Context::new();
    let inner = Upstream::saying("behind two layers of tls").await?;
    // One node is the upstream of another: a real https server with a certificate of a private CA.
    let (back, back_client) = serving(&context, "back.localhost", &inner.url()).await?;
    drop(back_client);
    let root = back.api.get("/roo/v1/ca").await?.text();
    let front = Start::new(&context, "front").spawn().await?;
    front.ready().await?;
    let to = format!("https://{}", back.https);
    let verified = serde_json::json!({ "to": [to], "tls": { "ca": root, "server_name": "back.localhost" } });
    front.route("back.localhost:https", &verified.to_string()).await?;
    let distrusted = serde_json::json!({ "to": [to], "tls": { "server_name": "back.localhost" } });
    front.route("distrusted.localhost:https", &distrusted.to_string()).await?;
    let https = front.https_client().await?;
    let answer = until("through both", async || https.get(front.https, "back.localhost", "/").await).await?;
    ensure!(answer.status == 200 && answer.text() == "behind two layers of tls", "{answer:?}");
    let answer = until("not through", async || https.get(front.https, "distrusted.localhost", "/").await).await?;
    ensure!(answer.status == 502 && answer.header("roo-error") == "upstream-tls", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn requests_go_on_without_a_quorum_and_end_well_at_a_stop() -> Result<()> {
    let context = Context::new();
    let mut cluster = crate::support::cluster::Cluster::start(&context, 3, &[]).await?;
    let upstream = Upstream::serve(|_| async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        Response::new(Full::from("slow but sure"))
    })
    .await?;
    cluster.nodes[0].route("lasting.localhost:https", &upstream.url()).await?;
    let https = cluster.nodes[0].https_client().await?;
    let first = cluster.nodes[0].https;
    until("it is served", async || https.get(first, "lasting.localhost", "/").await).await?;
    cluster.nodes[1].process.kill().await?;
    cluster.nodes[2].process.kill().await?;
    until("the quorum is missed", async || {
        ensure!(cluster.nodes[0].api.get("/readyz").await?.status == 503, "it is still ready");
        Ok(())
    })
    .await?;
    let answer = https.get(first, "lasting.localhost", "/").await?;
    ensure!(answer.text() == "slow but sure", "{answer:?}");
    // A request that is under way when the node is asked to stop is answered.
    let under_way = tokio::spawn(async move { https.get(first, "lasting.localhost", "/").await });
    until("the request is under way", async || {
        let connections = cluster.nodes[0].api.status().await?["connections"].as_u64();
        ensure!(connections >= Some(1), "{connections:?}");
        Ok(())
    })
    .await?;
    let stopped = cluster.nodes[0].stop();
    let (answer, stopped) = tokio::join!(under_way, stopped);
    stopped?;
    let answer = answer??;
    ensure!(answer.text() == "slow but sure", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn bounds_can_be_set() -> Result<()> {
    let context = Context::new();
    let upstream = Upstream::saying("here").await?;
    let start = Start::new(&context, "node").args([
        "--connections=1",
        "--header-bytes=1024",
        "--idle-timeout=1s",
        "--header-timeout=1s",
        "--response-timeout=1s",
    ]);
    let node = start.spawn().await?;
    node.ready().await?;
    node.route("bounded.localhost:http", &upstream.url()).await?;
    until("the route is here", async || {
        let answer = send(node.http, request(Method::GET, "bounded.localhost", "/", "")).await?;
        ensure!(answer.text() == "here", "{answer:?}");
        Ok(())
    })
    .await?;
    // It says nothing and is closed in time; nobody else gets in until then. The place may have been somebody else's still.
    let mut silent = until("the only place is taken", async || {
        let silent = tokio::net::TcpStream::connect(node.http).await?;
        let answer = send(node.http, request(Method::GET, "bounded.localhost", "/", "")).await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(silent)
    })
    .await?;
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest);
    tokio::time::timeout(std::time::Duration::from_secs(30), closed).await??;
    until("there is a place again", async || {
        let mut asked = request(Method::GET, "bounded.localhost", "/", "");
        asked.headers_mut().insert("x-long", "x".repeat(1024).parse()?);
        let answer = send(node.http, asked).await?;
        ensure!(answer.status == 431, "{answer:?}");
        Ok(())
    })
    .await?;
    let slow = TcpListener::bind("127.0.0.1:0").await?;
    node.route("slow.localhost:http", &format!("http://{}", slow.local_addr()?)).await?;
    until("the response does not begin in time", async || {
        let answer = send(node.http, request(Method::GET, "slow.localhost", "/", "")).await?;
        ensure!(answer.status == 504, "{answer:?}");
        Ok(())
    })
    .await
}
