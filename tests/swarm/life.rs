//! A cluster follows what becomes of the swarm: nobody tells it anything.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::deploy::{self, Trust};
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::live::{answers, label};
use crate::stage::update;
use crate::support::wait::until;

/// Silence after which a node is given up, in place of ten minutes.
const DEAD_AFTER: &str = "20s";

pub async fn the_cluster_follows_the_swarm(fleet: &mut Fleet) -> Result<()> {
    deploy::roo_with(fleet, Trust::Secret, &[("ROO_DEAD_AFTER", DEAD_AFTER)]).await?;
    let labels = ["--label", "roo.origin.scheme=http", "--label", "roo.host=first.test"];
    let placed = ["--constraint", "node.labels.load_balancer==true", "--mode", "global"];
    deploy::origin(fleet.node(1), "shop", &[labels, placed].concat()).await?;
    live_on(&fleet.nodes().iter().collect::<Vec<_>>(), "first.test").await?;
    all_tasks_are_new(fleet).await?;
    a_node_is_drained(fleet).await?;
    an_engine_is_restarted(fleet).await?;
    whoever_writes_routes_dies(fleet).await?;
    a_node_is_gone_for_good(fleet).await?;
    a_node_is_new(fleet).await
}

/// Each task gets another address.
async fn all_tasks_are_new(fleet: &Fleet) -> Result<()> {
    step("all tasks of Roo are replaced");
    update(fleet.node(1), deploy::ROO, &["--update-delay", "0s"]).await?;
    let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
    deploy::one_cluster(&nodes, 3).await?;
    write(&nodes, "replaced").await?;
    live_on(&nodes, "first.test").await
}

async fn a_node_is_drained(fleet: &Fleet) -> Result<()> {
    step("node 3 is drained");
    let (manager, id) = (fleet.node(1), fleet.node(3).id().await?);
    manager.docker(&["node", "update", "--availability", "drain", &id]).await?;
    until("Roo is gone from the node", async || {
        ensure!(fleet.node(3).container(deploy::ROO).await.is_err(), "it is there");
        Ok(())
    })
    .await?;
    write(&[fleet.node(1), fleet.node(2)], "drained").await?;
    manager.docker(&["node", "update", "--availability", "active", &id]).await?;
    let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
    deploy::one_cluster(&nodes, 3).await?;
    write(&nodes, "active").await
}

/// Routes stay while the engine that tells of labels is away, and new labels are followed once it is there again.
async fn an_engine_is_restarted(fleet: &mut Fleet) -> Result<()> {
    let number = writer(fleet).await?;
    step(&format!("the engine of node {number}, which writes routes, is restarted"));
    fleet.node_mut(number).stop().await?;
    let others: Vec<&Engine> = fleet.nodes().iter().filter(|node| node.number != number).collect();
    live_on(&others, "first.test").await?;
    fleet.node_mut(number).start().await?;
    let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
    deploy::one_cluster(&nodes, 3).await?;
    until("the label is written", async || label(fleet.node(number), "shop", "roo.host", "second.test").await).await?;
    live_on(&nodes, "second.test").await
}

/// The node that writes routes is lost with all on it; another one takes over.
async fn whoever_writes_routes_dies(fleet: &mut Fleet) -> Result<()> {
    let number = writer(fleet).await?;
    step(&format!("node {number}, which writes routes, is killed"));
    let began = Instant::now();
    fleet.node_mut(number).kill().await?;
    let others: Vec<&Engine> = fleet.nodes().iter().filter(|node| node.number != number).collect();
    // The swarm may have to choose a leader first.
    until("the label is written", async || label(others[0], "shop", "roo.host", "third.test").await).await?;
    let written = began.elapsed();
    live_on(&others, "third.test").await?;
    let live = began.elapsed();
    step(&format!(
        "Swarm took a label {} ms after, which was live {} ms later",
        written.as_millis(),
        (live - written).as_millis()
    ));
    write(&others, "killed").await?;
    fleet.node_mut(number).start().await?;
    let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
    deploy::one_cluster(&nodes, 3).await?;
    live_on(&nodes, "third.test").await
}

/// A node that never comes back holds up nobody.
async fn a_node_is_gone_for_good(fleet: &mut Fleet) -> Result<()> {
    step("node 3 is gone for good");
    let id = fleet.node(3).id().await?;
    fleet.node_mut(3).kill().await?;
    let left = [fleet.node(1), fleet.node(2)];
    until("the swarm gives the node up", async || {
        left[0].docker(&["node", "demote", &id]).await?;
        left[0].docker(&["node", "rm", "--force", &id]).await
    })
    .await?;
    write(&left, "gone").await
}

/// A node that gets the label gets a task, which finds the others and takes the place of the one that is gone.
async fn a_node_is_new(fleet: &mut Fleet) -> Result<()> {
    step("node 4 comes, and is labelled");
    fleet.add(1).await?;
    deploy::label(fleet.node(1), &fleet.node(4).id().await?).await?;
    let nodes = [fleet.node(1), fleet.node(2), fleet.node(4)];
    deploy::one_cluster(&nodes, 3).await?;
    write(&nodes, "new").await?;
    live_on(&nodes, "third.test").await
}

/// The node that writes what labels say.
async fn writer(fleet: &Fleet) -> Result<usize> {
    until("a node writes routes", async || {
        let writer = deploy::status(fleet.node(1)).await?["swarm"]["writer"].clone();
        for node in fleet.nodes() {
            if deploy::status(node).await?["node"] == writer {
                return Ok(node.number);
            }
        }
        None.with_context(|| format!("{writer} is none of them"))
    })
    .await
}

/// Each node takes a write, and all of them read it.
async fn write(nodes: &[&Engine], value: &str) -> Result<()> {
    for node in nodes {
        let value = format!("{value} {}", node.number);
        until("a write is taken", async || deploy::verb(node, &["kv", "put", "life", &value]).await).await?;
        for other in nodes {
            until("it is read", async || {
                let read = deploy::verb(other, &["kv", "get", "life"]).await?;
                ensure!(read == value, "{read}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

async fn live_on(nodes: &[&Engine], host: &str) -> Result<()> {
    try_join_all(nodes.iter().map(|node| answers(node, host))).await.map(drop)
}
