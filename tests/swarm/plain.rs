//! Containers that belong to no service.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use http::Method;

use crate::deploy;
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::image::ORIGIN;
use crate::support::api::{request, send};
use crate::support::wait::until;

/// A container with a label is served by all nodes, wherever it runs, until the last one of its name is gone.
pub async fn containers_without_a_service_are_served(fleet: &Fleet) -> Result<()> {
    for number in [2, 3] {
        step(&format!("docker run on node {number}"));
        let options = ["run", "--detach", "--name", "plain", "--network", "forenet"];
        let labels = ["--label", "roo.host=plain.test", "--label", "roo.origin.scheme=http"];
        fleet.node(number).docker(&[&options[..], &labels, &[ORIGIN]].concat()).await?;
        everywhere(fleet, 200, number - 1).await?;
    }
    for (number, left, status) in [(2, 1, 200), (3, 0, 404)] {
        step(&format!("docker rm on node {number}"));
        fleet.node(number).docker(&["rm", "--force", "plain"]).await?;
        everywhere(fleet, status, left).await?;
    }
    Ok(())
}

/// Waits until all nodes answer so, and know so many instances.
async fn everywhere(fleet: &Fleet, status: u16, instances: usize) -> Result<()> {
    try_join_all(fleet.nodes().iter().map(|node| answers(node, status, instances))).await.map(drop)
}

async fn answers(node: &Engine, status: u16, instances: usize) -> Result<()> {
    let address = SocketAddr::from((node.address, 80));
    until("the container is known", async || {
        let answer = send(address, request(Method::GET, "plain.test", "/", "")).await?;
        ensure!(answer.status == status, "node {}: {} {}", node.number, answer.status, answer.header("roo-error"));
        let known = deploy::verb(node, &["service", "ls", "--json"]).await?;
        let said = if instances == 0 { String::new() } else { format!("\"instances\":{instances}") };
        let known = known.replace(' ', "");
        ensure!(
            known.contains(&said) && (instances > 0) == known.contains("\"plain\""),
            "node {}: {known}",
            node.number
        );
        Ok(())
    })
    .await
}
