//! Routes that change under load. The service tells which host it was asked for and by which route: an answer that is
//! another host's, or an older route's than one that answered before, is wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::options;
use crate::support::api::{Api, request};
use crate::support::cluster::Start;
use crate::support::context::Context;
use crate::support::upstream::Upstream;
use crate::support::wait::until;

/// Hosts whose routes change, each asked for by one client without a pause.
const HOSTS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_make_no_wrong_answer_and_no_failure() -> Result<()> {
    let changes = if options::soak().is_some() { 10_000 } else { 1_000 };
    let (context, services) = (Context::new(), [Upstream::serve(echo).await?, Upstream::serve(echo).await?]);
    let node = Start::new(&context, "roo").spawn().await?;
    node.ready().await?;
    let route = |host: usize, change: usize| {
        let key = format!("com.roo.host:h{host}.test:http");
        // The service is told by the path which route it was asked by.
        (key, format!("{}/h{host}.test/{change}", services[change % services.len()].url()))
    };
    for host in 0..HOSTS {
        let (key, value) = route(host, 0);
        node.api.put(&key, value).await?;
    }
    for host in 0..HOSTS {
        until("the route is live", async || asked(node.http, host, 1).await).await?;
    }

    let stop = CancellationToken::new();
    let made: Arc<Vec<AtomicUsize>> = Arc::new((0..HOSTS).map(|_| AtomicUsize::new(0)).collect());
    let mut clients = JoinSet::new();
    for host in 0..HOSTS {
        clients.spawn(client(node.http, host, made.clone(), stop.clone()));
    }
    let began = Instant::now();
    for change in 1..=changes {
        let host = change % HOSTS;
        let (key, value) = route(host, change);
        node.api.put(&key, value).await?;
        made[host].store(change, Ordering::SeqCst);
        // Routes of nobody's come and go as well.
        if change % 10 == 0 {
            come_and_go(&node.api, change).await?;
        }
    }
    let took = began.elapsed();
    for host in 0..HOSTS {
        let last = made[host].load(Ordering::SeqCst);
        until("the last change is live", async || {
            let answer = ask(&mut connect(node.http).await?, host).await?;
            ensure!(answer == last, "{answer} of {last}");
            Ok(())
        })
        .await?;
    }
    stop.cancel();
    let mut answers = 0;
    while let Some(ended) = clients.join_next().await {
        answers += ended??;
    }
    println!("{changes} changes in {took:.1?}, {answers} answers meanwhile, none of them wrong");
    ensure!(answers >= changes, "{answers} answers are no load for {changes} changes");
    Ok(())
}

async fn come_and_go(api: &Api, change: usize) -> Result<()> {
    let key = format!("com.roo.host:gone{change}.test:http");
    api.put(&key, "http://127.0.0.1:1").await?;
    let answer = api.call(Method::DELETE, &format!("/roo/v1/kv/{key}"), "").await?;
    ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
    Ok(())
}

/// Tells the host and the path.
async fn echo(request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    Response::new(Full::from(format!("{host} {}", request.uri().path())))
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The number of the change that made the route which answered.
async fn ask(sender: &mut Sender, host: usize) -> Result<usize> {
    let name = format!("h{host}.test");
    let answer = sender.send_request(request(Method::GET, &name, "/", "").map(Full::new)).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    ensure!(status == StatusCode::OK, "{name} was told {status}: {text}");
    let change = text.strip_prefix(&format!("{name} /{name}/")).and_then(|rest| rest.strip_suffix('/'));
    change.and_then(|change| change.parse().ok()).with_context(|| format!("{name} was told {text}"))
}

async fn asked(address: SocketAddr, host: usize, times: usize) -> Result<()> {
    let mut sender = connect(address).await?;
    for _ in 0..times {
        ask(&mut sender, host).await?;
    }
    Ok(())
}

/// Asks for one host until told to stop: how often. No answer may be of an older route than the one before, nor of one
/// that is still to be made.
async fn client(
    address: SocketAddr,
    host: usize,
    made: Arc<Vec<AtomicUsize>>,
    stop: CancellationToken,
) -> Result<usize> {
    let (mut sender, mut answers, mut last) = (connect(address).await?, 0, 0);
    while !stop.is_cancelled() {
        let change = ask(&mut sender, host).await?;
        // One may be live before its writer has been told.
        let newest = made[host].load(Ordering::SeqCst) + HOSTS;
        ensure!((last..=newest).contains(&change), "h{host}: change {change} after {last}, of {newest}");
        (last, answers) = (change, answers + 1);
        if answers % 100 == 0 {
            sender = connect(address).await?;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(answers)
}
