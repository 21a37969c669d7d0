//! How a cluster forms on a swarm.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use http::Method;

use crate::deploy::{self, Trust};
use crate::fleet::{Fleet, step};
use crate::support::api::{request, send};
use crate::support::wait::until;

/// The stack file and a Docker secret make one cluster of three nodes, and each answers for a service by its label.
pub async fn three_nodes_form_one_cluster_and_answer(fleet: &mut Fleet) -> Result<()> {
    deploy::roo(fleet, Trust::Secret).await?;
    deploy::origin(fleet.node(1), "shop", &["--label", "roo.host=shop.test", "--label", "roo.origin.scheme=http"])
        .await?;
    step("each node answers");
    for node in fleet.nodes() {
        let address = SocketAddr::from((node.address, 80));
        until("the service answers", async || {
            let answer = send(address, request(Method::GET, "shop.test", "/hello", "")).await?;
            ensure!(answer.status == 200 && answer.text() == "/hello", "{answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
