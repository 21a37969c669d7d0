//! A node whose store has stopped: no quorum, hence no leader, or a disk that takes nothing more. What it knows it goes
//! on serving, new connections and their handshakes included.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;

use crate::HOST;
use crate::good::Good;
use crate::support::cluster::{Cluster, Node};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::upstream::Upstream;
use crate::support::wait::until;

/// How long the node is looked at in each state.
const WHILE: Duration = Duration::from_secs(5);

/// Handshakes of new clients meanwhile.
const HANDSHAKES: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_requests_and_handshakes_go_on() -> Result<()> {
    let (context, service) = (Context::new(), Upstream::saying("fine").await?);
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    for scheme in ["http", "https"] {
        cluster.nodes[0].route(&format!("{HOST}:{scheme}"), &service.url()).await?;
    }
    let https = cluster.nodes[0].https_client().await?;
    let before = serves(&cluster.nodes[0], &https).await?;

    for node in &mut cluster.nodes[1..] {
        node.process.kill().await?;
    }
    let node = &cluster.nodes[0];
    until("there is no leader", async || {
        let status = node.api.status().await?;
        ensure!(status["leader"].is_null(), "{status}");
        Ok(())
    })
    .await?;
    let refused = node.api.put("a", "b").await;
    ensure!(refused.is_err(), "a write without a quorum was taken");
    let after = serves(node, &https).await?;
    println!("p99 {before:.2?} with a quorum, {after:.2?} without");
    Ok(())
}

/// Requests and handshakes, of which none may fail: the p99 of the requests.
async fn serves(node: &Node, https: &Https) -> Result<Duration> {
    until("the route is live", async || {
        ensure!(https.get(node.https, HOST, "/").await?.status == StatusCode::OK);
        Ok(())
    })
    .await?;
    let good = Good::start(node.http);
    for _ in 0..HANDSHAKES {
        let answer = https.get(node.https, HOST, "/").await?;
        ensure!(answer.status == StatusCode::OK && answer.text() == "fine", "{} {}", answer.status, answer.text());
        tokio::time::sleep(WHILE / u32::try_from(HANDSHAKES)?).await;
    }
    Ok(good.end().await?.p99())
}
