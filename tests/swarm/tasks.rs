//! Tasks of services as every node knows them.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::deploy;
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::support::wait::until;

/// Tasks become instances on all nodes as soon as they run, and nothing new goes to one that is to stop, whoever wants it.
pub async fn tasks_are_known_to_all_nodes(fleet: &Fleet) -> Result<()> {
    let manager = fleet.node(1);
    deploy::origin(manager, "shop", &["--replicas", "3", "--label", "roo.host=shop.test"]).await?;
    step("three tasks are there");
    everywhere(fleet, 3).await?;
    let route = deploy::verb(manager, &["route", "explain", "https://shop.test/"]).await?;
    ensure!(route.contains("http://tasks.shop"), "{route}");

    step("one is killed");
    let node = fleet.node(2);
    let container = node.container("shop").await?;
    let killed = task_of(node, &container).await?;
    node.docker(&["kill", "-s", "KILL", &container]).await?;
    gone(fleet, &killed).await?;
    everywhere(fleet, 3).await?;

    step("docker service scale shop=1");
    manager.docker(&["service", "scale", "--detach", "shop=1"]).await?;
    everywhere(fleet, 1).await?;

    step("a node is drained");
    manager.docker(&["service", "scale", "--detach", "shop=3"]).await?;
    everywhere(fleet, 3).await?;
    let drained = fleet.node(3);
    let container = drained.container("shop").await?;
    let task = task_of(drained, &container).await?;
    let id = drained.docker(&["info", "--format", "{{.Swarm.NodeID}}"]).await?;
    manager.docker(&["node", "update", "--availability", "drain", &id]).await?;
    // Roo's own task there is drained, too.
    let others = &fleet.nodes()[..2];
    try_join_all(others.iter().map(|node| out(node, &task))).await?;
    try_join_all(others.iter().map(|node| up(node, 3))).await?;
    Ok(())
}

/// When the node that writes hangs, another one goes on where it stopped.
pub async fn another_node_writes_when_one_hangs(fleet: &Fleet) -> Result<()> {
    let label = |host: &str| format!("roo.host={host}");
    deploy::origin(fleet.node(1), "shop", &["--replicas", "3", "--label", &label("one.test")]).await?;
    everywhere(fleet, 3).await?;
    let first = deploy::status(fleet.node(1)).await?["swarm"]["writer"].clone();
    let mut hung = None;
    for node in fleet.nodes() {
        if deploy::status(node).await?["node"] == first {
            hung = Some(node);
        }
    }
    let hung = hung.with_context(|| format!("nobody is {first}"))?;
    let container = hung.container(deploy::ROO).await?;
    step(&format!("node {} hangs", hung.number));
    hung.docker(&["pause", &container]).await?;
    let others: Vec<&Engine> = fleet.nodes().iter().filter(|node| node.number != hung.number).collect();
    let manager = others[0];
    let args = ["service", "update", "--detach", "--label-add", &label("two.test"), "shop"];
    manager.docker(&args).await?;
    manager.docker(&["service", "scale", "--detach", "shop=2"]).await?;
    try_join_all(others.iter().map(|node| up(node, 2))).await?;
    for node in &others {
        until("the new label is a route", async || {
            let routes = deploy::verb(node, &["route", "ls"]).await?;
            ensure!(routes.contains("two.test") && !routes.contains("one.test"), "{routes}");
            Ok(())
        })
        .await?;
        let writer = &deploy::status(node).await?["swarm"]["writer"];
        ensure!(writer.is_string() && *writer != first, "{writer}");
    }
    step("it is back");
    hung.docker(&["unpause", &container]).await?;
    everywhere(fleet, 2).await?;
    deploy::remove(fleet, "shop").await
}

async fn task_of(node: &Engine, container: &str) -> Result<String> {
    node.docker(&["inspect", "-f", "{{index .Config.Labels \"com.docker.swarm.task.id\"}}", container]).await
}

/// Waits until all nodes know so many tasks that take requests.
async fn everywhere(fleet: &Fleet, count: usize) -> Result<()> {
    try_join_all(fleet.nodes().iter().map(|node| up(node, count))).await.map(drop)
}

/// Waits until no node leads anything new to a task.
async fn gone(fleet: &Fleet, task: &str) -> Result<()> {
    try_join_all(fleet.nodes().iter().map(|node| out(node, task))).await.map(drop)
}

async fn up(node: &Engine, count: usize) -> Result<()> {
    until("the tasks are known", async || {
        let rows = instances(node).await?;
        let up = rows.iter().filter(|row| row["state"] == "up" && row["source"] == "docker").count();
        ensure!(up == count, "node {}: {rows:?}", node.number);
        Ok(())
    })
    .await
}

async fn out(node: &Engine, task: &str) -> Result<()> {
    until("the task is out", async || {
        let rows = instances(node).await?;
        ensure!(!rows.iter().any(|row| row["id"] == task && row["state"] == "up"), "node {}: {rows:?}", node.number);
        Ok(())
    })
    .await
}

async fn instances(node: &Engine) -> Result<Vec<Value>> {
    let text = deploy::verb(node, &["service", "ls", "shop", "--json"]).await?;
    serde_json::from_str(&text).context(text)
}
