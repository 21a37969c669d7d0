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
    // The account's key is changed by any node, and the next order is by the new one.
    let said = ok(&cluster.nodes[1], &["cert", "account", "rollover"]).await.with_context(|| tail(&pebble.log()))?;
    ensure!(said.starts_with("changed the key of https://"), "{said}");
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

/// What OpenSSL says of the signature in a handshake, if it takes signatures of this kind only.
async fn signature(node: &Node, name: &str, kind: &str) -> Result<String> {
    let mut command = tokio::process::Command::new("openssl");
    command.args(["s_client", "-connect", &node.https.to_string(), "-servername", name, "-sigalgs", kind]);
    let output = command.stdin(std::process::Stdio::null()).output().await.context("openssl is needed")?;
    let said = text(&output);
    let line = said.lines().find(|line| line.contains("signature type:"));
    line.map(str::to_owned).with_context(|| said.clone())
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_whose_key_it_can_use() -> Result<()> {
    let context = Context::new();
    let start = crate::support::cluster::Start::new(&context, "node").args(["--acme-key", "p256+rsa2048"]);
    let node = start.spawn().await?;
    node.ready().await?;
    node.route("two.example:https", "http://127.0.0.1:9").await?;
    until("the certificates are here", async || {
        let shown = shown(&node, "two.example").await?;
        ensure!(shown["key"] == "P-256" && shown["second"]["key"] == "RSA-2048", "{shown}");
        Ok(())
    })
    .await?;
    let rsa = signature(&node, "two.example", "rsa_pss_rsae_sha256").await?;
    ensure!(rsa.to_lowercase().contains("rsa"), "{rsa}");
    for kind in ["ecdsa_secp256r1_sha256", "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256"] {
        let ecdsa = signature(&node, "two.example", kind).await?;
        ensure!(ecdsa.to_lowercase().contains("ecdsa"), "{kind}: {ecdsa}");
    }
    let facts = ok(&node, &["ca"]).await?;
    ensure!(facts.contains("CN=Roo internal CA") && facts.contains("CN=Roo internal intermediate"), "{facts}");
    Ok(())
}

#[tokio::test]
async fn a_private_name_gets_a_certificate_of_our_own_beside_a_public_ca() -> Result<()> {
    let context = Context::new();
    let port = common_port()?;
    let pebble = Pebble::start(&context, port, Ipv4Addr::LOCALHOST).await?;
    // Trusted like a public one: by the system's roots.
    let directory = pebble.directory();
    let start = crate::support::cluster::Start::new(&context, "node").without_authority().http(port);
    let start = start.args(["--acme-directory", &directory, "--acme-challenge", "http-01"]);
    let node = start.environment("SSL_CERT_FILE", &pebble.ca_file).spawn().await?;
    node.ready().await?;
    let upstream = Upstream::saying("hello").await?;
    for name in ["db.internal", "public.example"] {
        node.route(&format!("{name}:https"), &upstream.url()).await?;
        until("the certificate is here", async || {
            let shown = shown(&node, name).await?;
            ensure!(shown["state"] == "ready", "{shown}");
            Ok(())
        })
        .await
        .with_context(|| tail(&pebble.log()))?;
    }
    ensure!(shown(&node, "db.internal").await?["source"] == "internal");
    ensure!(shown(&node, "public.example").await?["source"] == directory.as_str());
    ensure!(!pebble.log().contains("db.internal"), "{}", tail(&pebble.log()));
    ensure!(node.https_client().await?.get(node.https, "db.internal", "/").await?.text() == "hello");
    Ok(())
}
