//! How long a label takes until it is a live route on all nodes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use http::Method;
use serde_json::Value;

use crate::deploy;
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::options::rounds;
use crate::support::api::{request, send};
use crate::support::wait::until;

/// Changes a service's label again and again; each time all nodes follow. The times are printed.
pub async fn a_label_is_live_on_all_nodes(fleet: &Fleet) -> Result<()> {
    deploy::origin(fleet.node(1), "shop", &["--label", "roo.origin.scheme=http"]).await?;
    deploy::running(fleet.node(1), "shop", 1).await?;
    let mut times = Vec::new();
    for round in 0..rounds(20, 200) {
        let host = format!("round-{round}.test");
        // Each manager is told in its turn; which one writes routes is another matter.
        let manager = fleet.node(round % fleet.nodes().len() + 1);
        let began = Instant::now();
        label(manager, "shop", "roo.host", &host).await?;
        try_join_all(fleet.nodes().iter().map(|node| answers(node, &host))).await?;
        times.push(began.elapsed());
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
    step(&format!(
        "label to live route on all nodes, {} times: p50 {} ms, p99 {} ms, most {} ms",
        times.len(),
        at(50),
        at(99),
        at(100)
    ));
    deploy::remove(fleet, "shop").await
}

/// Sets a label of a service by the engine's API, which takes less time than the command line.
pub async fn label(manager: &Engine, service: &str, name: &str, value: &str) -> Result<()> {
    let path = format!("/services/{service}");
    let found: Value = manager.ask(Method::GET, &path, None).await?.json()?;
    let version = found["Version"]["Index"].as_u64().context("a service without a version")?;
    let mut spec = found["Spec"].clone();
    spec["Labels"][name] = value.into();
    manager.ask(Method::POST, &format!("{path}/update?version={version}"), Some(&spec)).await.map(drop)
}

/// Waits until a node has a live route for a host.
pub async fn answers(node: &Engine, host: &str) -> Result<()> {
    let address = SocketAddr::from((node.address, 80));
    until("the route is live", async || {
        let answer = tokio::time::timeout(Duration::from_secs(5), send(address, request(Method::GET, host, "/", "")));
        let answer = answer.await??;
        ensure!(answer.status == 200, "node {}: {} {}", node.number, answer.status, answer.header("roo-error"));
        Ok(())
    })
    .await
}
