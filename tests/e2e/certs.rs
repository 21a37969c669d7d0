//! `roo cert` and the API behind it, with a real ACME server.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use serde_json::Value;

use crate::pebble::{cluster, common_port, leaf};
use crate::support::cli::{ok, roo, text};
use crate::support::cluster::{Node, tail};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::pebble::Pebble;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

async fn shown(node: &Node, name: &str) -> Result<Value> {
    node.api.get(&format!("/roo/v1/certs/{name}")).await?.json()
}

#[tokio::test]
async fn a_certificate_is_shown_renewed_and_revoked_from_any_node() -> Result<()> {
    let context = Context::new();
    let port = common_port()?;
    let pebble = Pebble::start(&context, port, Ipv4Addr::new(127, 0, 0, 2)).await?;
    let cluster = cluster(&context, &pebble, port).await?;
    let upstream = Upstream::saying("hello").await?;
    let name = "verbs.example";
    cluster.nodes[0].route(&format!("{name}:https"), &upstream.url()).await?;
    for node in &cluster.nodes {
        until("the certificate is here", async || {
            let shown = shown(node, name).await?;
            ensure!(shown["state"] == "ready", "{shown}");
            Ok(())
        })
        .await
        .with_context(|| tail(&pebble.log()))?;
    }
    let first = shown(&cluster.nodes[1], name).await?;
    ensure!(first["key"] == "P-256" && first["source"] == pebble.directory(), "{first}");
    ensure!(first["routes"][0] == "verbs.example:https" && first["renew_at"].is_string(), "{first}");
    ensure!(first["fingerprint_sha256"].as_str().is_some_and(|text| text.len() == 95), "{first}");

    let said = ok(&cluster.nodes[2], &["cert", "renew", name]).await.with_context(|| tail(&pebble.log()))?;
    ensure!(said.starts_with("renewed: verbs.example"), "{said}");
    let second = shown(&cluster.nodes[2], name).await?;
    ensure!(second["serial"] != first["serial"] && second["asked"].is_null(), "{second}");
    let https = Https::trusting(&pebble.root().await?)?;
    let served = async || {
        let der = leaf(&https, &cluster.nodes[2], name).await?;
        Ok::<_, anyhow::Error>(der)
    };
    let of_second = served().await?;

    let said = ok(&cluster.nodes[1], &["cert", "revoke", name, "--reason", "superseded"]).await?;
    ensure!(said.starts_with("revoked: verbs.example"), "{said}");
    let serial = second["serial"].as_str().context("a serial")?;
    ensure!(pebble.status_of(serial).await? == "Revoked");
    until("another one is served", async || {
        let now = shown(&cluster.nodes[2], name).await?;
        ensure!(now["serial"] != second["serial"] && now["state"] == "ready", "{now}");
        ensure!(served().await? != of_second);
        Ok(())
    })
    .await
    .with_context(|| tail(&pebble.log()))?;

    ok(&cluster.nodes[0], &["cert", "revoke", name, "--no-renew"]).await?;
    until("it is served no more", async || {
        let now = shown(&cluster.nodes[2], name).await?;
        ensure!(now["state"] == "revoked" && now["renew_at"].is_null(), "{now}");
        Ok(())
    })
    .await?;
    let metrics = cluster.nodes[2].api.get("/metrics").await?.text();
    ensure!(metrics.contains("roo_tls_certs{state=\"revoked\"} 1"), "{metrics}");
    ok(&cluster.nodes[0], &["cert", "renew", name]).await?;
    ensure!(https.get(cluster.nodes[0].https, name, "/").await?.text() == "hello");
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_done_is_said() -> Result<()> {
    let context = Context::new();
    let node = crate::support::cluster::Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let upstream = Upstream::saying("hello").await?;
    node.route("own.example:https", &upstream.url()).await?;
    until("the certificate is here", async || {
        let shown = shown(&node, "own.example").await?;
        ensure!(shown["state"] == "ready", "{shown}");
        Ok(())
    })
    .await?;
    for (args, said) in [
        (["cert", "show", "stranger.example"], "there is no certificate for `stranger.example`"),
        (["cert", "renew", "stranger.example"], "there is no certificate for `stranger.example`"),
        (["cert", "revoke", "own.example"], "is of the internal CA, which revokes none"),
        (["cert", "rm", "stranger.example"], "there is no certificate"),
    ] {
        let output = roo(Some(&node), &args).await?;
        ensure!(output.status.code() == Some(1) && text(&output).contains(said), "{args:?}: {}", text(&output));
    }
    let before = shown(&node, "own.example").await?;
    ok(&node, &["cert", "rm", "own.example"]).await?;
    until("another one has come", async || {
        let now = shown(&node, "own.example").await?;
        ensure!(now["state"] == "ready" && now["serial"] != before["serial"], "{now}");
        Ok(())
    })
    .await
}
