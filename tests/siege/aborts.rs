//! Load of which a fifth is given up half way, for a while or for an hour. What it took must come back: memory,
//! descriptors, and connections, each of which is a task.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::HOST;
use crate::cost;
use crate::front::Front;
use crate::options;
use crate::support::api::{request, send};
use crate::support::https::Https;
use crate::support::wait::until;

/// Requests under way at any time.
const CLIENTS: usize = 16;

/// Bytes that pools and tables may still grow by in a short run.
const LITTLE: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_load_and_aborted_requests_take_comes_back() -> Result<()> {
    let front = Front::start().await?;
    let (warm_up, time, growth_max) = match options::soak() {
        Some(time) => (Duration::from_secs(60), time, 0.05),
        // In a while that short, not every pool and table has grown to its size yet.
        None => (Duration::from_secs(5), Duration::from_secs(10), 0.5),
    };
    load(&front, warm_up).await?;
    let before = settled(&front).await?;
    let (asked, aborted) = load(&front, time).await?;
    let after = settled(&front).await?;
    let growth = after.memory as f64 / before.memory as f64 - 1.0;
    println!(
        "{asked} requests in {time:?} and {aborted} given up; {before:?} before, {after:?} after ({:+.1} %)",
        growth * 100.0
    );
    let grown = after.memory.saturating_sub(before.memory);
    let is_little = options::soak().is_none() && grown <= LITTLE;
    ensure!(growth <= growth_max || is_little, "memory has grown by {:.1} %", growth * 100.0);
    // Connections to the service are kept for a while, as many as there were clients at a time.
    let kept = 2 * CLIENTS + 8;
    ensure!(after.descriptors <= before.descriptors + kept, "{before:?} before, {after:?} after");
    Ok(())
}

/// What a node without clients holds.
#[derive(Debug)]
struct Held {
    memory: u64,
    descriptors: usize,
}

/// Waits until the node knows of no client's connection any more.
async fn settled(front: &Front) -> Result<Held> {
    until("no client's connection is left", async || {
        let metrics = front.node.api.get("/metrics").await?.text();
        let open: Vec<&str> = metrics.lines().filter(|line| line.starts_with("roo_open_connections{")).collect();
        ensure!(!open.is_empty() && open.iter().all(|line| line.ends_with(" 0")), "{open:?}");
        Ok(())
    })
    .await?;
    let pid = front.pid()?;
    Ok(Held { memory: cost::resident(pid)?, descriptors: cost::descriptors(pid)? })
}

/// How many requests were answered, and how many given up.
async fn load(front: &Front, time: Duration) -> Result<(usize, usize)> {
    let until = Instant::now() + time;
    let mut clients = JoinSet::new();
    for at in 0..CLIENTS {
        clients.spawn(client(front.node.http, front.node.https, front.https.clone(), at, until));
    }
    let (mut asked, mut aborted) = (0, 0);
    while let Some(ended) = clients.join_next().await {
        let (own, given_up) = ended??;
        (asked, aborted) = (asked + own, aborted + given_up);
    }
    Ok((asked, aborted))
}

async fn client(http: SocketAddr, https: SocketAddr, tls: Https, at: usize, until: Instant) -> Result<(usize, usize)> {
    let (mut asked, mut aborted) = (0, 0);
    while Instant::now() < until {
        for _ in 0..4 {
            let answer = send(http, request(Method::POST, HOST, "/", "content")).await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.status);
            asked += 1;
        }
        match (at + aborted) % 4 {
            0 => give_up(http, "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 99\r\n\r\nhalf", 0).await?,
            1 => give_up(http, "GET /never HTTP/1.1\r\nHost: {}\r\n\r\n", 0).await?,
            2 => give_up(http, "GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", 100_000).await?,
            _ => give_up_stream(&tls, https).await?,
        }
        aborted += 1;
    }
    Ok((asked, aborted))
}

/// Asks, reads so much of the answer, and hangs up.
async fn give_up(address: SocketAddr, text: &str, read: usize) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text.replace("{}", HOST).as_bytes()).await?;
    let mut answer = vec![0; read];
    stream.read_exact(&mut answer).await.context("the beginning of a response")?;
    Ok(())
}

/// Resets one stream of HTTP/2, asks again on another, and hangs up.
async fn give_up_stream(tls: &Https, address: SocketAddr) -> Result<()> {
    let stream = TokioIo::new(tls.connect(address, HOST, &["h2"]).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let get = |path| Request::get(format!("https://{HOST}{path}")).body(Full::<Bytes>::default());
    let mut large = sender.send_request(get("/large")?).await?.into_body();
    large.frame().await.context("no content")??;
    drop(large);
    let answer = sender.send_request(get("/")?).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    answer.into_body().collect().await?;
    connection.abort();
    Ok(())
}
