//! What a cluster of three does in time: a route that becomes live everywhere, the leader stopped, the leader lost.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::series::Series;
use crate::support::Result;
use crate::support::api::{request, send};
use crate::support::cluster::Cluster;
use crate::support::context::Context;
use crate::support::upstream::Upstream;

/// Routes written in each round.
const ROUTES_PER_ROUND: usize = 10;
/// A figure beyond this is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the part; gives its section of the report.
pub async fn run(options: &Options) -> Result<String> {
    let mut live = Series::default();
    let mut handover = Series::default();
    let mut failover = Series::default();
    for round in 0..options.rounds {
        let context = Context::new();
        let mut cluster = Cluster::start(&context, 3, &[]).await?;
        let upstream = Upstream::saying("live").await?;
        for k in 0..ROUTES_PER_ROUND {
            let host = format!("live-{round}-{k}.localhost");
            live.push(route_live(&cluster, &host, &upstream.url()).await?);
        }
        handover.push(leader_stopped(&mut cluster).await?);
        failover.push(leader_lost(&mut cluster).await?);
        eprintln!("cluster, round {}: route live {live}, stopped {handover}, lost {failover}", round + 1);
    }
    let mut report = String::from("### Cluster\n\nThree nodes on loopback, in milliseconds.\n\n");
    report += "| | median | highest |\n|---|--:|--:|\n";
    let _ = writeln!(
        report,
        "| `PUT` of a route until all three nodes serve it | {:.1} | {:.1} |",
        live.median(),
        live.highest()
    );
    let _ = writeln!(
        report,
        "| the leader stopped by SIGTERM: longest wait of a writer at another node | {:.0} | {:.0} |",
        handover.median(),
        handover.highest()
    );
    let _ = writeln!(
        report,
        "| kill -9 of the leader until the next write is acknowledged | {:.0} | {:.0} |\n",
        failover.median(),
        failover.highest()
    );
    Ok(report)
}

/// Milliseconds from the begin of the write until every node serves the route.
async fn route_live(cluster: &Cluster, host: &str, url: &str) -> Result<f64> {
    let begin = Instant::now();
    cluster.nodes[0].route(&format!("{host}:http"), url).await?;
    for node in &cluster.nodes {
        while !serves(node.http, host).await? {
            ensure!(begin.elapsed() < PATIENCE, "{host} is not live on {}", node.http);
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

async fn serves(address: SocketAddr, host: &str) -> Result<bool> {
    Ok(send(address, request(Method::GET, host, "/", "")).await?.status == 200)
}

/// Stops the leader while a client writes at another node, one write after the other: its longest wait, in
/// milliseconds. Then the node is started again.
async fn leader_stopped(cluster: &mut Cluster) -> Result<f64> {
    let leader = cluster.leader().await?;
    let other = cluster.nodes[(leader + 1) % 3].api.clone();
    let stopped = CancellationToken::new();
    let watched = stopped.clone();
    let writer = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !watched.is_cancelled() {
            let begin = Instant::now();
            other.put("during", "x").await?;
            longest = longest.max(begin.elapsed());
        }
        anyhow::Ok(longest)
    });
    cluster.nodes[leader].stop().await?;
    stopped.cancel();
    let longest = writer.await??;
    cluster.nodes[leader] = cluster.starts[leader].spawn().await?;
    cluster.formed().await?;
    Ok(longest.as_secs_f64() * 1000.0)
}

/// Milliseconds from the kill of the leader until a write through another node is acknowledged.
async fn leader_lost(cluster: &mut Cluster) -> Result<f64> {
    let leader = cluster.leader().await?;
    let other = cluster.nodes[(leader + 1) % 3].api.clone();
    other.put("before", "x").await?;
    cluster.nodes[leader].process.kill().await?;
    let begin = Instant::now();
    while let Err(error) = other.put("after", "x").await {
        ensure!(begin.elapsed() < PATIENCE, "no write succeeds: {error:#}");
    }
    other.value("after").await?.context("the write is gone")?;
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}
