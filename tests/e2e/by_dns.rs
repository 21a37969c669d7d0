//! Three processes on loopback find each other by a name in the DNS, whatever it shows when.

use std::net::SocketAddr;

use anyhow::Context as _;

use crate::cluster::every_node_reads_what_any_node_writes;
use crate::support::cluster::{Node, Start, formed, free_addresses_on_one_port};
use crate::support::context::Context;
use crate::support::dns::{Dns, v4};
use crate::support::wait::until;
use crate::support::{Result, ensure};

/// Three nodes that look for each other by the names that `server` shows.
fn plan(context: &Context, addresses: &[SocketAddr], server: &Dns) -> Result<Vec<Start>> {
    let resolver = server.address.to_string();
    let start = |(k, address): (usize, &SocketAddr)| {
        let start = Start::new(context, &format!("node-{k}")).raft(*address).secret()?;
        Ok(start.args(["--dns", "tasks.roo_roo.", "--resolver", &resolver, "--start-delay", "300ms"]))
    };
    addresses.iter().enumerate().map(start).collect()
}

#[tokio::test]
async fn all_at_once() -> Result<()> {
    let context = Context::new();
    let addresses = free_addresses_on_one_port(3)?;
    let dns = Dns::start(v4(&addresses)).await?;
    let mut nodes = Vec::new();
    for start in plan(&context, &addresses, &dns)? {
        nodes.push(start.spawn().await?);
    }
    formed(&nodes).await?;
    every_node_reads_what_any_node_writes(&nodes).await
}

#[tokio::test]
async fn the_others_join_one_that_founded_long_before_the_name_showed_them() -> Result<()> {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let context = Context::new();
        let addresses = free_addresses_on_one_port(3)?;
        let dns = Dns::start(Vec::new()).await?;
        let starts = plan(&context, &addresses, &dns)?;
        let mut shown = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        for which in order {
            shown.push(addresses[which]);
            dns.set(v4(&shown));
            nodes.push(starts[which].spawn().await?);
            formed(&nodes).await.with_context(|| format!("{} of three", nodes.len()))?;
            nodes[0].api.put(&format!("written/{}", nodes.len()), "x").await?;
        }
        for node in &nodes {
            for count in 1..=3 {
                ensure!(node.api.value(&format!("written/{count}")).await?.as_deref() == Some("x"), "{count} is lost");
            }
        }
        every_node_reads_what_any_node_writes(&nodes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn expected_nodes_do_not_found_before_a_majority_of_them_is_shown() -> Result<()> {
    let context = Context::new();
    let addresses = free_addresses_on_one_port(3)?;
    let dns = Dns::start(v4(&addresses[..1])).await?;
    let starts: Vec<Start> =
        plan(&context, &addresses, &dns)?.into_iter().map(|start| start.args(["--expect", "3"])).collect();
    let mut nodes = vec![starts[0].spawn().await?];
    until("the first says what it waits for", async || {
        let status = nodes[0].api.status().await?;
        let waiting_for = status["waiting_for"].as_str().unwrap_or_default();
        ensure!(waiting_for == "more nodes: 1 of 3 answer, 2 are needed to found a cluster", "{status}");
        Ok(())
    })
    .await?;
    dns.set(v4(&addresses));
    for start in &starts[1..] {
        nodes.push(start.spawn().await?);
    }
    formed(&nodes).await?;
    every_node_reads_what_any_node_writes(&nodes).await
}
