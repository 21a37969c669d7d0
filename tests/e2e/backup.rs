//! Backups of a cluster in use, and restores into a new one.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::Value;
use tokio::process::Command;

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Start};
use crate::support::context::{Context, roo_bin};
use crate::support::wait::until;
use crate::support::{Result, ensure};

async fn roo(api: &Api, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(roo_bin());
    command.args(args).env_clear().env("ROO_ADDR", api.address.to_string());
    if let Some(token) = &api.token {
        command.env("ROO_TOKEN", token);
    }
    Ok(command.output().await?)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn all(api: &Api, prefix: &str) -> Result<Value> {
    Ok(api.get(&format!("/roo/v1/kvs/{prefix}")).await?.json()?["results"].clone())
}

#[tokio::test]
async fn a_backup_under_writes_is_restored_into_a_new_cluster() -> Result<()> {
    let context = Context::new();
    let old = Cluster::start(&context, 3, &[]).await?;
    old.nodes[0].route("shop.example:http", "http://127.0.0.1:9001").await?;
    for n in 0..200 {
        old.nodes[n % 3].api.put(&format!("before/{n:03}"), vec![b'a' + (n % 26) as u8; 5000]).await?;
    }
    // Pairs are written one key after the other: a backup of one moment never shows the second without the first.
    let stop = Arc::new(AtomicBool::new(false));
    let writing: tokio::task::JoinHandle<Result<u32>> = tokio::spawn({
        let (api, stop) = (old.nodes[1].api.clone(), Arc::clone(&stop));
        async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                api.put(&format!("pair/{n}/1"), "x").await?;
                api.put(&format!("pair/{n}/2"), "x").await?;
                n += 1;
            }
            Ok(n)
        }
    });
    until("the writer is at work", async || {
        ensure!(old.nodes[1].api.value("pair/3/2").await?.is_some());
        Ok(())
    })
    .await?;
    let file = context.path("store.backup");
    let name = file.to_string_lossy().into_owned();
    let taken = roo(&old.nodes[2].api, &["backup", &name]).await?;
    ensure!(taken.status.success(), "{}", text(&taken));
    stop.store(true, Ordering::Relaxed);
    ensure!(writing.await?? > 3);
    let entries = all(&old.nodes[0].api, "before/").await?;

    // A cluster in use is left alone.
    let refused = roo(&old.nodes[0].api, &["restore", &name]).await?;
    ensure!(!refused.status.success() && text(&refused).contains("nothing was changed"), "{}", text(&refused));

    let new_context = Context::new();
    let new = Cluster::start(&new_context, 3, &[]).await?;
    // A damaged file changes nothing.
    let mut damaged = std::fs::read(&file)?;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let answer = new.nodes[0].api.call(Method::POST, "/roo/v1/restore", damaged).await?;
    ensure!(answer.status == 400 && answer.json()?["code"] == "bad-backup", "{answer:?}");
    ensure!(all(&new.nodes[0].api, "before/").await? == serde_json::json!({}));

    let restored = roo(&new.nodes[1].api, &["restore", &name, "--json"]).await?;
    ensure!(restored.status.success(), "{}", text(&restored));
    let answer: Value = serde_json::from_slice(&restored.stdout)?;
    ensure!(answer["revision"].as_u64() > answer["backup_revision"].as_u64(), "{answer}");
    for node in &new.nodes {
        ensure!(all(&node.api, "before/").await? == entries);
        ensure!(node.api.value("com.roo.host:shop.example:http").await?.is_some());
        let pairs = all(&node.api, "pair/").await?;
        let pairs = pairs.as_object().cloned().unwrap_or_default();
        ensure!(pairs.contains_key("pair/3/2"));
        for key in pairs.keys().filter(|key| key.ends_with("/2")) {
            ensure!(pairs.contains_key(&key.replace("/2", "/1")), "{key} came without what was before it");
        }
    }
    // It goes on from there, and a second restore finds it in use.
    new.nodes[2].api.put("after", "1").await?;
    let again = roo(&new.nodes[0].api, &["restore", &name]).await?;
    ensure!(!again.status.success(), "{}", text(&again));
    Ok(())
}

#[tokio::test]
async fn a_restore_goes_on_when_the_leader_is_killed_and_is_asked_for_again_when_the_asked_node_is() -> Result<()> {
    const ENTRIES: usize = 500;
    let context = Context::new();
    let old = Start::new(&context, "old").secret()?.spawn().await?;
    old.ready().await?;
    // What can't be compressed comes in many parts.
    for n in 0..ENTRIES {
        let value: Vec<u8> = std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(20_000).collect();
        old.api.put(&format!("many/{n:04}"), value).await?;
    }
    let file = context.path("store.backup").to_string_lossy().into_owned();
    let taken = roo(&old.api, &["backup", &file]).await?;
    ensure!(taken.status.success(), "{}", text(&taken));
    let first = old.api.value("many/0000").await?;

    for leader_dies in [true, false] {
        let context = Context::new();
        let mut cluster = Cluster::start(&context, 3, &[]).await?;
        let leader = cluster.leader().await?;
        let (asked, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let before = cluster.nodes[other].api.status().await?["applied"].as_u64();
        let restoring = tokio::spawn({
            let (api, file) = (cluster.nodes[asked].api.clone(), file.clone());
            async move { roo(&api, &["restore", &file]).await }
        });
        until("some parts have come", async || {
            let applied = cluster.nodes[other].api.status().await?["applied"].as_u64();
            ensure!(applied > before.map(|before| before + 3), "{applied:?} after {before:?}");
            Ok(())
        })
        .await?;
        let victim = if leader_dies { leader } else { asked };
        cluster.nodes[victim].process.kill().await?;
        let restored = restoring.await??;
        if leader_dies {
            ensure!(restored.status.success(), "{}", text(&restored));
        } else if !restored.status.success() {
            let again = roo(&cluster.nodes[other].api, &["restore", &file]).await?;
            ensure!(again.status.success() || text(&again).contains("holds nothing"), "{}", text(&again));
        }
        cluster.nodes[victim] = cluster.starts[victim].spawn().await?;
        cluster.formed().await?;
        for node in &cluster.nodes {
            ensure!(node.api.value("many/0000").await? == first);
            ensure!(node.api.value(&format!("many/{:04}", ENTRIES - 1)).await?.is_some());
        }
    }
    Ok(())
}

#[tokio::test]
async fn values_sealed_with_another_secret_are_named_and_can_be_left_out() -> Result<()> {
    let context = Context::new();
    let old = Start::new(&context, "old").secret()?.spawn().await?;
    old.ready().await?;
    old.https_client().await?;
    old.api.put("mine", "1").await?;
    let backup = old.api.get("/roo/v1/backup").await?;
    ensure!(backup.status == 200 && !backup.header("x-roo-revision").is_empty(), "{:?}", backup.status);
    ensure!(!backup.text().contains("PRIVATE KEY"));

    let new = Start::new(&context, "new").spawn().await?;
    new.ready().await?;
    let refused = new.api.call(Method::POST, "/roo/v1/restore", backup.body.clone()).await?;
    ensure!(refused.status == 409 && refused.json()?["code"] == "other-secret", "{refused:?}");
    ensure!(new.api.value("mine").await?.is_none());
    let path = "/roo/v1/restore?without_sealed=true";
    let restored = new.api.call(Method::POST, path, backup.body).await?;
    ensure!(restored.status == 200 && restored.json()?["left_out"].as_u64() > Some(0), "{restored:?}");
    ensure!(new.api.value("mine").await?.as_deref() == Some("1"));
    Ok(())
}
