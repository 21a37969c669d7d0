//! Leases through the API.

use http::Method;
use serde_json::Value;

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Start};
use crate::support::context::Context;
use crate::support::wait::until;
use crate::support::{Result, ensure};

async fn grant(api: &Api, ttl: &str) -> Result<String> {
    let answer = api.call(Method::POST, "/roo/v1/leases", format!(r#"{{"ttl": "{ttl}"}}"#)).await?;
    ensure!(answer.status == 200 && !answer.header("x-roo-revision").is_empty(), "{answer:?}");
    Ok(answer.json()?["id"].as_str().unwrap_or_default().to_owned())
}

async fn show(api: &Api, lease: &str) -> Result<Value> {
    api.get(&format!("/roo/v1/leases/{lease}?keys=1")).await?.json()
}

async fn keep_alive(api: &Api, lease: &str) -> Result<u16> {
    Ok(api.call(Method::POST, &format!("/roo/v1/leases/{lease}/keepalive"), "").await?.status.as_u16())
}

#[tokio::test]
async fn leases_are_granted_kept_shown_listed_and_revoked() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let leader = cluster.leader().await?;
    for node in &cluster.nodes {
        let api = &node.api;
        let lease = grant(api, "10m").await?;
        for key in ["l/a", "l/b"] {
            ensure!(api.call(Method::PUT, &format!("/roo/v1/kv/{key}?lease={lease}"), "x").await?.status == 200);
        }
        // A write without it takes a key off.
        api.put("l/b", "x").await?;
        let shown = show(api, &lease).await?;
        ensure!(shown["ttl"] == 600 && shown["keys"] == serde_json::json!(["l/a"]), "{shown}");
        ensure!(shown["left"].as_f64().is_some_and(|left| left > 0.0 && left <= 600.0), "{shown}");
        ensure!(keep_alive(api, &lease).await? == 200);
        let listed = api.get("/roo/v1/leases").await?.json()?;
        let known = listed["leases"].as_array().into_iter().flatten().any(|row| row["id"] == lease.as_str());
        ensure!(known, "{listed}");
        let revoked = api.call(Method::DELETE, &format!("/roo/v1/leases/{lease}"), "").await?;
        ensure!(
            revoked.status == 200 && revoked.json()?["revision"].as_u64() > shown["revision"].as_u64(),
            "{revoked:?}"
        );
        ensure!(api.value("l/a").await?.is_none() && api.value("l/b").await?.is_some());
        ensure!(keep_alive(api, &lease).await? == 404);
        ensure!(api.call(Method::DELETE, &format!("/roo/v1/leases/{lease}"), "").await?.status == 404);
        let late = api.call(Method::PUT, &format!("/roo/v1/kv/l/a?lease={lease}"), "x").await?;
        ensure!(late.status == 404 && late.json()?["code"] == "lease-not-found", "{late:?}");
    }
    let api = &cluster.nodes[leader].api;
    for (body, code) in [(r#"{"ttl": "10ms"}"#, "bad-ttl"), (r#"{"ttl": "soon"}"#, "bad-ttl"), ("", "bad-ttl")] {
        let answer = api.call(Method::POST, "/roo/v1/leases", body).await?;
        ensure!(answer.status == 400 && answer.json()?["code"] == code, "{body}: {answer:?}");
    }
    ensure!(api.get("/roo/v1/leases/what").await?.json()?["code"] == "bad-lease");
    Ok(())
}

#[tokio::test]
async fn a_lease_that_is_not_kept_ends_and_takes_its_keys_along() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let lease = grant(&node.api, "1s").await?;
    ensure!(node.api.call(Method::PUT, &format!("/roo/v1/kv/gone?lease={lease}"), "x").await?.status == 200);
    until("the lease ends", async || {
        ensure!(node.api.value("gone").await?.is_none(), "its key is there");
        Ok(())
    })
    .await?;
    ensure!(keep_alive(&node.api, &lease).await? == 404);
    Ok(())
}

/// Through losses of the leader a lease that is kept alive lives, and one that is not ends once it has had its time.
#[tokio::test]
async fn a_lease_outlives_its_leader_but_not_its_time() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let leader = cluster.leader().await?;
    let rest = cluster.nodes[(leader + 1) % 3].api.clone();
    let kept = grant(&rest, "20s").await?;
    let left_alone = grant(&rest, "3s").await?;
    for (key, lease) in [("kept", &kept), ("left-alone", &left_alone)] {
        ensure!(rest.call(Method::PUT, &format!("/roo/v1/kv/{key}?lease={lease}"), "x").await?.status == 200);
    }
    cluster.nodes[leader].process.kill().await?;
    // The new leader gives whole times again, so what is left is never less than what the client counts on.
    until("another leader keeps it alive", async || {
        ensure!(keep_alive(&rest, &kept).await? == 200, "not kept");
        Ok(())
    })
    .await?;
    until("the lease that nobody keeps ends", async || {
        ensure!(keep_alive(&rest, &kept).await? == 200, "the other one ended");
        ensure!(rest.value("left-alone").await?.is_none(), "its key is there");
        Ok(())
    })
    .await?;
    ensure!(rest.value("kept").await?.is_some() && keep_alive(&rest, &left_alone).await? == 404);
    // The one that comes back sees the same.
    cluster.nodes[leader] = cluster.starts[leader].spawn().await?;
    cluster.nodes[leader].ready().await?;
    let back = &cluster.nodes[leader].api;
    ensure!(back.value("kept").await?.is_some() && back.value("left-alone").await?.is_none());
    ensure!(show(back, &kept).await?["keys"] == serde_json::json!(["kept"]));
    Ok(())
}
