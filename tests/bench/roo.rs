//! Roo as a proxy and as a store.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::program;
use crate::proxy::{Front, HOST, Logs, log_file};
use crate::store::{Dialect, Member, Store};
use crate::support::cluster::{Cluster, Node, Start};
use crate::support::context::{Context, roo_bin};
use crate::support::wait::until;

/// One node with one proxy thread in front of `service`, its route set by the API, its certificate from its own CA.
pub async fn start(context: &Context, service: SocketAddr, logs: Logs) -> Result<Front> {
    let start = Start::new(context, "roo");
    let file = log_file(context, "roo");
    let start = match logs {
        Logs::Off => start,
        Logs::On => start.args(["--access-log", file.to_str().context("a path")?]),
    };
    start_by(start, service).await
}

/// As [`start`], in a way of its own.
pub async fn start_by(start: Start, service: SocketAddr) -> Result<Front> {
    let node = start.spawn().await?;
    node.ready().await?;
    for scheme in ["http", "https"] {
        node.route(&format!("{HOST}:{scheme}"), &format!("http://{service}")).await?;
    }
    front(node).await
}

/// A node that is there, as a proxy.
pub async fn front(node: Node) -> Result<Front> {
    let roots = until("the internal CA exists", async || {
        let answer = node.api.get("/roo/v1/ca").await?;
        anyhow::ensure!(answer.status == 200, "{}", answer.text());
        Ok(answer.text())
    })
    .await?;
    let (http, https) = (node.http, node.https);
    Ok(Front { name: "Roo", version: version(), server: node.process.into(), http, https, roots })
}

/// A cluster of `count` nodes.
pub async fn cluster(context: &Context, count: u8) -> Result<Store> {
    let cluster = Cluster::start(context, count, &[]).await?;
    let token = cluster.nodes.first().and_then(|node| node.api.token.clone()).context("no token")?;
    let members =
        cluster.nodes.into_iter().map(|node| Member { address: node.api.address, server: node.process.into() });
    Ok(Store { name: "Roo", dialect: Dialect::Roo { token }, members: members.collect() })
}

fn version() -> String {
    program::version(&roo_bin(), "version")
}
