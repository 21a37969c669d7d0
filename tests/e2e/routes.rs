//! Routes from the store, on all nodes.

use http::Method;

use crate::support::cluster::{Cluster, Start};
use crate::support::context::Context;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

#[tokio::test]
async fn a_route_put_on_one_node_is_live_on_all() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let upstream = Upstream::saying("hello from the shop").await?;
    cluster.nodes[1].route("shop.localhost:https", &upstream.url()).await?;
    let https = cluster.nodes[0].https_client().await?;
    for node in &cluster.nodes {
        let answer = until("the shop answers", async || https.get(node.https, "shop.localhost", "/").await).await?;
        ensure!(answer.status == 200 && answer.text() == "hello from the shop", "{answer:?}");
    }
    // The certificate is at hand now, so that what is seen below is routing alone.
    let second = Upstream::saying("moved").await?;
    cluster.nodes[2].route("shop.localhost:https", &second.url()).await?;
    for node in &cluster.nodes {
        until("the shop has moved", async || {
            let answer = https.get(node.https, "shop.localhost", "/").await?;
            ensure!(answer.text() == "moved", "{answer:?}");
            Ok(())
        })
        .await?;
    }
    let answer = cluster.nodes[0].api.call(Method::DELETE, "/roo/v1/kv/com.roo.host:shop.localhost:https", "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    for node in &cluster.nodes {
        until("the route is gone", async || {
            ensure!(https.get(node.https, "shop.localhost", "/").await.is_err(), "it is still served");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn wildcards_ports_and_several_destinations() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let (one, two) = (Upstream::saying("one").await?, Upstream::saying("two").await?);
    node.route("*.wild.localhost:https", &one.url()).await?;
    node.route("exact.wild.localhost:https", &two.url()).await?;
    let both = serde_json::json!({ "to": [one.url(), two.url()] }).to_string();
    node.route("both.localhost:https", &both).await?;
    // Any spelling of an origin is the same origin.
    node.route("CASE.localhost.:443:https", &one.url()).await?;
    let https = node.https_client().await?;
    for (name, expected) in [("a.wild.localhost", "one"), ("exact.wild.localhost", "two"), ("case.localhost", "one")] {
        let answer = until(name, async || https.get(node.https, name, "/").await).await?;
        ensure!(answer.text() == expected, "{name}: {answer:?}");
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(until("both", async || https.get(node.https, "both.localhost", "/").await).await?.text());
    }
    seen.sort();
    ensure!(seen == ["one", "one", "two", "two"], "{seen:?}");
    let listed = node.api.get("/roo/v1/routes").await?.json()?;
    ensure!(listed.as_array().map(Vec::len) == Some(4), "{listed}");
    Ok(())
}

#[tokio::test]
async fn a_malformed_destination_is_refused_by_name() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    for (value, part) in [
        ("ftp://a:1", "ftp"),
        ("http://", "host"),
        ("http://a:0", "0"),
        ("http://user:pass@a:1", "user"),
        (r#"{"to": []}"#, "to"),
        (r#"{"too": ["http://a"]}"#, "too"),
        ("", "empty"),
    ] {
        let answer = node.api.call(Method::PUT, "/roo/v1/kv/com.roo.host:bad.localhost:https", value).await?;
        ensure!(answer.status == 400, "{value}: {answer:?}");
        let said = answer.json()?["error"].as_str().unwrap_or_default().to_owned();
        ensure!(said.contains(part), "{value}: {said}");
    }
    ensure!(node.api.get("/roo/v1/routes").await?.json()?.as_array().is_some_and(Vec::is_empty));
    Ok(())
}
