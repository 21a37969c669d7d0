//! Three processes on loopback become, stay and again become one cluster.

use std::collections::BTreeSet;

use crate::support::cluster::{Cluster, Node, Start, formed, free_addresses, tail};
use crate::support::context::Context;
use crate::support::wait::until;
use crate::support::{Result, bail, ensure};
use anyhow::Context as _;

#[tokio::test]
async fn all_at_once() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    every_node_reads_what_any_node_writes(&cluster.nodes).await
}

#[tokio::test]
async fn one_after_the_other_in_any_order() -> Result<()> {
    for order in [[2, 0, 1], [1, 2, 0]] {
        let context = Context::new();
        let starts = Cluster::plan(&context, 3, &[])?;
        let mut nodes = Vec::new();
        nodes.push(starts[order[0]].spawn().await?);
        // The first alone must not become a cluster, however long it waits: the others might become another.
        until("the first waits for the others", async || {
            let status = nodes[0].api.status().await?;
            ensure!(status["state"] == "forming" && status["waiting_for"].is_string(), "{status}");
            Ok(())
        })
        .await?;
        nodes.push(starts[order[1]].spawn().await?);
        formed(&nodes).await.context("two of three")?;
        nodes[0].api.put("early", "bird").await?;
        nodes.push(starts[order[2]].spawn().await?);
        formed(&nodes).await.context("three of three")?;
        ensure!(nodes[2].api.value("early").await?.as_deref() == Some("bird"));
        every_node_reads_what_any_node_writes(&nodes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn writes_go_on_when_any_one_is_killed_and_it_catches_up() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let mut written = BTreeSet::new();
    for round in 0..3 {
        let victim = if round == 0 { cluster.leader().await? } else { (cluster.leader().await? + round) % 3 };
        for k in 0..20 {
            let key = format!("before/{round}/{k}");
            cluster.nodes[k % 3].api.put(&key, "x").await?;
            written.insert(key);
        }
        cluster.nodes[victim].process.kill().await?;
        let other = (victim + 1) % 3;
        for k in 0..20 {
            let key = format!("during/{round}/{k}");
            cluster.nodes[other].api.put(&key, "x").await.context("a write while one node is away")?;
            written.insert(key);
        }
        cluster.nodes[victim] = cluster.starts[victim].spawn().await?;
        cluster.formed().await?;
    }
    for node in &cluster.nodes {
        caught_up(node, &written).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_whose_process_ends_is_followed_without_waiting_for_chance() -> Result<()> {
    // A machine that is very busy may be so late that chance comes first.
    for _ in 0..5 {
        let context = Context::new();
        let mut cluster = Cluster::start(&context, 3, &[]).await?;
        let leader = cluster.leader().await?;
        cluster.nodes[leader].process.kill().await?;
        cluster.nodes.remove(leader);
        until("the others take a write", async || cluster.nodes[0].api.put("after", "it").await).await?;
        if cluster.nodes.iter().any(|node| node.process.output().contains("asking whether to take over")) {
            return Ok(());
        }
    }
    bail!("nobody asked whether to take over")
}

#[tokio::test]
async fn all_stopped_and_started_with_other_addresses() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let id = cluster.nodes[0].cluster_id().await?;
    cluster.nodes[1].api.put("kept", "yes").await?;
    for node in &mut cluster.nodes {
        node.process.kill().await?;
    }
    let addresses = free_addresses(3)?;
    let peers = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut nodes = Vec::new();
    for (k, address) in addresses.iter().enumerate() {
        let start = Start::new(&context, &format!("node-{k}")).raft(*address).secret()?.args(["--peers", &peers]);
        nodes.push(start.spawn().await?);
    }
    formed(&nodes).await?;
    ensure!(nodes[0].cluster_id().await? == id, "it is another cluster");
    ensure!(nodes[2].api.value("kept").await?.as_deref() == Some("yes"));
    until("the members have their new addresses", async || {
        let status = nodes[0].api.status().await?;
        for address in &addresses {
            let known = status["nodes"].as_array().into_iter().flatten().any(|n| n["address"] == address.to_string());
            ensure!(known, "{address} is not among {}", status["nodes"]);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stranger_is_refused() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let peers = cluster.nodes.iter().map(|node| node.raft.to_string()).collect::<Vec<_>>().join(",");
    let stranger = Start::new(&context, "stranger")
        .args(["--secret", "a secret that is another one", "--peers", &peers, "--start-delay", "0"])
        .spawn()
        .await?;
    until("the cluster has refused it", async || {
        let refused = cluster.nodes.iter().any(|node| node.process.output().contains("refused"));
        ensure!(refused, "nobody says so:\n{}", tail(&cluster.nodes[0].process.output()));
        Ok(())
    })
    .await?;
    let status = stranger.api.status().await?;
    ensure!(status["state"] == "forming", "{status}");
    ensure!(cluster.nodes[0].api.status().await?["nodes"].as_array().map(Vec::len) == Some(3));
    Ok(())
}

#[tokio::test]
async fn without_a_secret_no_cluster_is_formed() -> Result<()> {
    let context = Context::new();
    let output = tokio::process::Command::new(crate::support::context::roo_bin())
        .args(["run", "--http=127.0.0.1:0", "--https=127.0.0.1:0", "--api=127.0.0.1:0", "--raft=127.0.0.1:0"])
        .args(["--peers", "127.0.0.1:9"])
        .arg("--data-dir")
        .arg(context.path("node"))
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2) && said.contains("ROO_SECRET"), "{said}");
    Ok(())
}

pub async fn every_node_reads_what_any_node_writes(nodes: &[Node]) -> Result<()> {
    for (k, writer) in nodes.iter().enumerate() {
        writer.api.put(&format!("from/{k}"), k.to_string()).await?;
        for reader in nodes {
            let value = reader.api.value(&format!("from/{k}")).await?;
            ensure!(value == Some(k.to_string()), "a linearizable read gave {value:?}");
        }
    }
    Ok(())
}

/// Waits until the node itself, without asking others, has every key.
async fn caught_up(node: &Node, keys: &BTreeSet<String>) -> Result<()> {
    until("the node has caught up", async || {
        for key in keys {
            if node.api.value_at(key, "stale").await?.is_none() {
                bail!("{key} is missing");
            }
        }
        Ok(())
    })
    .await
}
