//! A client that comes back to any node resumes its session there.

use rustls::HandshakeKind;

use crate::support::cluster::Cluster;
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

const NAME: &str = "tickets.localhost";

/// Resumes at every node what it began at the first.
async fn resumes_everywhere(cluster: &Cluster, https: &Https) -> Result<()> {
    let client = https.returning();
    let first = client.handshake(cluster.nodes[0].https, NAME).await?;
    ensure!(first == HandshakeKind::Full, "{first:?}");
    for node in cluster.nodes.iter().rev() {
        let again = client.handshake(node.https, NAME).await?;
        ensure!(again == HandshakeKind::Resumed, "{again:?} at {}", node.https);
    }
    Ok(())
}

#[tokio::test]
async fn a_ticket_of_one_node_is_good_at_all_and_after_a_restart() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let upstream = Upstream::saying("here").await?;
    cluster.nodes[0].route(&format!("{NAME}:https"), &upstream.url()).await?;
    let https = cluster.nodes[0].https_client().await?;
    for node in &cluster.nodes {
        until("the name is served", async || https.handshake(node.https, NAME).await.map(drop)).await?;
    }
    until("all have the same keys", async || resumes_everywhere(&cluster, &https).await).await?;
    let client = https.returning();
    client.handshake(cluster.nodes[0].https, NAME).await?;
    cluster.nodes[1].process.kill().await?;
    cluster.nodes[1] = cluster.starts[1].spawn().await?;
    cluster.formed().await?;
    until("the session outlives the process", async || {
        let again = client.handshake(cluster.nodes[1].https, NAME).await?;
        ensure!(again == HandshakeKind::Resumed, "{again:?}");
        Ok(())
    })
    .await?;
    // Nobody else may see them.
    let shown = cluster.nodes[2].api.get("/roo/v1/kv/com.roo.tickets").await?.text();
    ensure!(!shown.contains("secret") && !shown.contains("keys"), "{shown}");
    Ok(())
}
