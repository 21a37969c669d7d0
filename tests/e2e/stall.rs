//! Clients of the API that come to a standstill lose their connection, and what they held is given back.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::api::Api;
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Result, ensure};

async fn node(context: &Context) -> Result<Node> {
    let node = Start::new(context, "node").spawn().await?;
    node.ready().await?;
    Ok(node)
}

/// How many watches the node serves.
async fn watches(api: &Api) -> Result<u64> {
    let metrics = api.get("/metrics").await?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("roo_api_watches ")).context("no such metric")?;
    Ok(line.trim().parse()?)
}

#[tokio::test]
async fn watchers_that_read_nothing_are_cut_in_every_protocol() -> Result<()> {
    let context = Context::new();
    let node = node(&context).await?;
    let address = node.api.address;

    let mut http1 = TcpStream::connect(address).await?;
    http1.write_all(b"GET /roo/v1/watch/w/ HTTP/1.1\r\nhost: api\r\n\r\n").await?;

    let request = format!("ws://{address}/roo/v1/watch/w/").into_client_request()?;
    let (socket, _) = tokio_tungstenite::client_async(request, TcpStream::connect(address).await?).await?;

    // The connection is read all the time, so that it answers pings; the answer is not.
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let http2 = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{address}/roo/v1/watch/w/")).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == 200, "{answer:?}");

    until("there are three watchers", async || {
        let count = watches(&node.api).await?;
        ensure!(count == 3, "{count}");
        Ok(())
    })
    .await?;
    // More than all the buffers on the way to them can take.
    for _ in 0..60 {
        node.api.put("w/large", vec![b'x'; 500_000]).await?;
    }
    let cut = tokio::time::timeout(4 * PATIENCE, async {
        while watches(&node.api).await? > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    });
    cut.await.context("some watchers keep their places")??;
    tokio::time::timeout(PATIENCE, http2).await.context("the connection of HTTP/2 is still open")??.ok();
    drop((http1, socket, answer));
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_and_its_connection_closed() -> Result<()> {
    let context = Context::new();
    let node = node(&context).await?;
    let mut client = TcpStream::connect(node.api.address).await?;
    client.write_all(b"PUT /roo/v1/kv/slow HTTP/1.1\r\nhost: api\r\ncontent-length: 100\r\n\r\nten bytes.").await?;
    let answer = to_the_end(&mut client).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let head = head.to_lowercase();
    ensure!(head.starts_with("http/1.1 408 ") && head.contains("connection: close"), "{answer}");
    ensure!(body.contains("\"request-timeout\""), "{answer}");
    ensure!(node.api.value("slow").await?.is_none(), "it was written");
    Ok(())
}

#[tokio::test]
async fn a_connection_whose_request_does_not_come_is_closed() -> Result<()> {
    let context = Context::new();
    let node = node(&context).await?;
    let begun = |text: &'static [u8]| async move {
        let mut client = TcpStream::connect(node.api.address).await?;
        client.write_all(text).await?;
        to_the_end(&mut client).await
    };
    let (none, half) = tokio::join!(begun(b""), begun(b"GET /roo/v1/status HTTP/1.1\r\nhost:"));
    let (none, half) = (none?, half?);
    ensure!(!none.contains("200") && !half.contains("200"), "{none}{half}");
    // Others are served all the while.
    ensure!(node.api.call(Method::GET, "/roo/v1/status", "").await?.status == 200);
    Ok(())
}

/// What the node sends until it closes the connection.
async fn to_the_end(client: &mut TcpStream) -> Result<String> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await;
    read.context("the connection is still open")??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
