//! The cluster's secret: who is kept out, what is sealed with it, and how it is changed under way.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Node, SECRET, Start, formed, tail};
use crate::support::context::{Context, roo_bin};
use crate::support::files;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Result, ensure};

const NEW_SECRET: &str = "the secret that takes its place";

/// Runs `roo secret …` against a node.
async fn secret(node: &Node, present: &str, args: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(roo_bin());
    command.arg("secret").args(args).env_clear().kill_on_drop(true);
    command.env("ROO_ADDR", node.api.address.to_string()).env("ROO_SECRET", present);
    let output = tokio::time::timeout(crate::support::wait::PATIENCE, command.output()).await;
    output.context("`roo secret` does not end")?.context("roo secret")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn token_of(secret: &str) -> Result<String> {
    let output = std::process::Command::new(roo_bin()).args(["token", "--secret", secret]).env_clear().output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Whether a node takes `token` for that of the secret.
async fn is_root(node: &Node, token: &str) -> Result<bool> {
    let api = Api { address: node.api.address, token: Some(token.to_owned()) };
    until("the node says whether it takes the token", async || {
        let answer = api.get("/roo/v1/tokens").await?;
        ensure!(matches!(answer.status.as_u16(), 200 | 401 | 403), "{}", answer.text());
        Ok(answer.status == 200)
    })
    .await
}

/// Writes one key after the other through all nodes in turn, until told to stop; returns how many. Every write must
/// succeed. On a machine that is too busy for the cluster to have a leader all the time a call may be told so, and is
/// then made again; nothing else may be said to it.
fn write_on(nodes: &[Node], token: &str) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Result<usize>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let apis: Vec<Api> =
        nodes.iter().map(|node| Api { address: node.api.address, token: Some(token.to_owned()) }).collect();
    let told = Arc::clone(&stop);
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while !told.load(Ordering::Relaxed) {
            let api = &apis[written % apis.len()];
            let path = format!("/roo/v1/kv/during/{written}");
            let deadline = Instant::now() + PATIENCE;
            let mut answer = api.call(Method::PUT, &path, written.to_string()).await?;
            while matches!(answer.status.as_u16(), 503 | 504) && Instant::now() < deadline {
                answer = api.call(Method::PUT, &path, written.to_string()).await?;
            }
            ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
            written += 1;
        }
        Ok(written)
    });
    (stop, writing)
}

/// Every key that was written under way is there, as this node sees it.
async fn all_written(node: &Node, written: usize) -> Result<()> {
    let mut cursor = String::new();
    let mut found = BTreeSet::new();
    loop {
        let page = until("the keys are read", async || {
            let answer = node.api.get(&format!("/roo/v1/kvs/during/?cursor={cursor}")).await?;
            ensure!(answer.status == 200, "{}", answer.text());
            answer.json()
        })
        .await?;
        for (key, value) in page["results"].as_object().context("results")? {
            let number = key.strip_prefix("during/").context("another key")?;
            ensure!(*value == STANDARD.encode(number), "{key} is {value}");
            found.insert(number.parse::<usize>()?);
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    ensure!(found.into_iter().eq(0..written), "not all of {written} writes are there");
    Ok(())
}

#[tokio::test]
async fn a_cluster_changes_its_secret_while_it_is_written_to() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let (old, new) = (token_of(SECRET)?, token_of(NEW_SECRET)?);
    let file = context.path("new-secret");
    std::fs::write(&file, NEW_SECRET)?;
    let to = file.display().to_string();
    cluster.nodes[0].route("sealed.localhost:https", "http://127.0.0.1:9").await?;
    let https = cluster.nodes[0].https_client().await?;
    let wanted = json!({ "name": "writer", "read": [""], "write": [""] }).to_string();
    let made = cluster.nodes[0].api.call(Method::POST, "/roo/v1/tokens", wanted).await?.json()?;
    let writer = made["token"].as_str().context("a token")?.to_owned();
    for node in &cluster.nodes {
        let api = Api { address: node.api.address, token: Some(writer.clone()) };
        until("the writer's token is known", async || api.put("begin", "x").await).await?;
        serves(node, &https).await?;
    }

    let (stop, writing) = write_on(&cluster.nodes, &writer);
    let output = secret(&cluster.nodes[1], SECRET, &["rotate", "--to", &to]).await?;
    ensure!(output.status.success(), "{}", said(&output));
    for node in &cluster.nodes {
        ensure!(is_root(node, &old).await? && is_root(node, &new).await?, "one of the tokens is refused");
    }
    let again = secret(&cluster.nodes[0], SECRET, &["rotate", "--to", &to]).await?;
    ensure!(!again.status.success(), "{}", said(&again));
    let output = secret(&cluster.nodes[2], NEW_SECRET, &["finish"]).await?;
    ensure!(output.status.success(), "{}", said(&output));
    for node in &cluster.nodes {
        until("the former token is refused", async || {
            ensure!(!is_root(node, &old).await? && is_root(node, &new).await?);
            Ok(())
        })
        .await?;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await??;
    ensure!(written > 0, "nothing was written");
    for node in &mut cluster.nodes {
        node.api.token = Some(new.clone());
    }
    for node in &cluster.nodes {
        all_written(node, written).await?;
    }

    // A node that is still given the former secret goes by the new one, and says so.
    cluster.nodes[0].stop().await?;
    cluster.nodes[0] = cluster.starts[0].spawn().await?;
    cluster.nodes[0].api.token = Some(new.clone());
    formed(&cluster.nodes).await?;
    let output = cluster.nodes[0].process.output();
    ensure!(output.contains("the secret that was given has been replaced"), "{}", tail(&output));
    for node in &cluster.nodes {
        serves(node, &https).await?;
    }
    // What it has on its disk is what `roo secret show` prints.
    cluster.nodes[0].stop().await?;
    let data_dir = context.path("node-0").display().to_string();
    let shown = secret(&cluster.nodes[1], SECRET, &["show", "--data-dir", &data_dir]).await?;
    ensure!(String::from_utf8_lossy(&shown.stdout).trim() == NEW_SECRET, "{}", said(&shown));

    // A new node needs the new secret.
    let peers = cluster.nodes[1..].iter().map(|node| node.raft.to_string()).collect::<Vec<_>>().join(",");
    let newcomer = |secret: &'static str, name: &str| {
        Start::new(&context, name).args(["--secret", secret, "--peers", &peers, "--start-delay", "0"])
    };
    let outdated = newcomer(SECRET, "outdated").spawn().await?;
    until("a node with the former secret is refused", async || {
        let output = outdated.process.output();
        ensure!(output.contains("did not prove that it knows this node's secret"), "{}", tail(&output));
        Ok(())
    })
    .await?;
    ensure!(outdated.api.status().await?["state"] == "forming");
    let welcome = newcomer(NEW_SECRET, "welcome").spawn().await?;
    welcome.ready().await?;
    serves(&welcome, &https).await
}

async fn serves(node: &Node, https: &crate::support::https::Https) -> Result<()> {
    let connect = async || https.connect(node.https, "sealed.localhost", &["http/1.1"]).await.map(drop);
    until("the certificate is served", connect).await
}

#[tokio::test]
async fn a_change_goes_on_when_the_leader_dies_in_the_middle() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let file = context.path("new-secret");
    std::fs::write(&file, NEW_SECRET)?;
    let to = file.display().to_string();
    // With one member away it does not begin, unless told to.
    let leader = cluster.leader().await?;
    let (asked, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[other].process.kill().await?;
    until("its absence is noticed", async || {
        let nodes = cluster.nodes[asked].api.get("/roo/v1/nodes").await?.json()?;
        let away = nodes.as_array().into_iter().flatten().any(|node| node["state"] == "unreachable");
        ensure!(away, "{nodes}");
        Ok(())
    })
    .await?;
    let output = secret(&cluster.nodes[asked], SECRET, &["rotate", "--to", &to]).await?;
    ensure!(!output.status.success() && said(&output).contains("can't be reached"), "{}", said(&output));
    cluster.nodes[other] = cluster.starts[other].spawn().await?;
    cluster.formed().await?;

    // The leader is killed as soon as it has begun.
    let leader = cluster.leader().await?;
    let asked = (leader + 1) % 3;
    let asking = cluster.nodes[asked].api.clone();
    let report = async || asking.get("/roo/v1/secret").await?.json();
    let arguments = ["rotate", "--to", to.as_str()];
    let rotating = secret(&cluster.nodes[asked], SECRET, &arguments);
    let killing = async {
        until("it has begun", async || {
            ensure!(report().await?["phase"].is_string());
            Ok(())
        })
        .await?;
        cluster.nodes[leader].process.signal("KILL").await
    };
    // What it has begun goes on without it.
    {
        tokio::pin!(killing);
        tokio::select! {
            killed = &mut killing => killed?,
            _ = rotating => killing.await?,
        }
    }
    cluster.nodes[leader].process.wait().await?;
    cluster.nodes[leader] = cluster.starts[leader].spawn().await?;
    until("the next leader has brought it to the overlap", async || {
        let report = report().await?;
        ensure!(report["phase"] == "overlap", "{report}");
        Ok(())
    })
    .await?;
    cluster.formed().await?;

    let leader = cluster.leader().await?;
    let ends = (leader + 1) % 3;
    let output = secret(&cluster.nodes[ends], NEW_SECRET, &["finish"]).await?;
    ensure!(output.status.success(), "{}", said(&output));
    // The leader waits a while before it drops the former one: it is killed while it does.
    cluster.nodes[leader].process.kill().await?;
    let (old, new) = (token_of(SECRET)?, token_of(NEW_SECRET)?);
    until("the next leader has ended it", async || {
        ensure!(!is_root(&cluster.nodes[ends], &old).await? && is_root(&cluster.nodes[ends], &new).await?);
        Ok(())
    })
    .await?;
    cluster.nodes[leader] = cluster.starts[leader].spawn().await?;
    for node in &mut cluster.nodes {
        node.api.token = Some(new.clone());
    }
    cluster.formed().await?;
    until("it has followed", async || {
        ensure!(!is_root(&cluster.nodes[leader], &old).await? && is_root(&cluster.nodes[leader], &new).await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn by_force_a_change_leaves_members_behind_that_are_away() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &["--dead-after", "1h"]).await?;
    let file = context.path("new-secret");
    std::fs::write(&file, NEW_SECRET)?;
    let to = file.display().to_string();
    cluster.nodes[0].api.put("before", "x").await?;
    let (old, new) = (token_of(SECRET)?, token_of(NEW_SECRET)?);
    let leader = cluster.leader().await?;
    let (asked, away) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[away].process.kill().await?;
    until("its absence is noticed by all", async || {
        for node in [&cluster.nodes[leader], &cluster.nodes[asked]] {
            let nodes = node.api.get("/roo/v1/nodes").await?.json()?;
            ensure!(nodes.as_array().into_iter().flatten().any(|node| node["state"] == "unreachable"), "{nodes}");
        }
        Ok(())
    })
    .await?;
    let output = secret(&cluster.nodes[asked], SECRET, &["rotate", "--to", &to, "--force"]).await?;
    ensure!(output.status.success(), "{}", said(&output));
    let output = secret(&cluster.nodes[asked], NEW_SECRET, &["finish"]).await?;
    ensure!(output.status.success(), "{}", said(&output));
    for node in [leader, asked].map(|node| &cluster.nodes[node]) {
        until("the former token is refused", async || {
            ensure!(!is_root(node, &old).await? && is_root(node, &new).await?);
            Ok(())
        })
        .await?;
    }
    // With the former secret it stays out, and the others go on without it.
    let mut outdated = cluster.starts[away].spawn().await?;
    until("it is refused", async || {
        let output = outdated.process.output();
        ensure!(output.contains("did not prove that it knows this node's secret"), "{}", tail(&output));
        Ok(())
    })
    .await?;
    cluster.nodes[asked].api.token = Some(new.clone());
    until("the others go on", async || cluster.nodes[asked].api.put("after", "x").await).await?;
    outdated.process.kill().await?;
    // With the new one it comes back as what it was.
    let back = cluster.starts[away].clone().with_secret(NEW_SECRET);
    cluster.nodes[away] = back.spawn().await?;
    for node in &mut cluster.nodes {
        node.api.token = Some(new.clone());
    }
    cluster.formed().await?;
    for key in ["before", "after"] {
        until("it has what the others have", async || {
            ensure!(cluster.nodes[away].api.value(key).await?.as_deref() == Some("x"), "{key}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stranger_and_another_cluster_are_told_of_once() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let peers = cluster.nodes.iter().map(|node| node.raft.to_string()).collect::<Vec<_>>().join(",");
    let stranger = Start::new(&context, "stranger")
        .args(["--secret", "a secret that is another one", "--peers", &peers, "--start-delay", "0"])
        .spawn()
        .await?;
    let count = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    until("the stranger has tried many times", async || {
        let dialed = count(&stranger.process.output(), "did not prove that it knows this node's secret");
        let refused: usize = cluster.nodes.iter().map(|node| count(&node.process.output(), "refused a peer")).sum();
        ensure!(dialed == 3 && refused >= 3, "dialed {dialed}, refused {refused}");
        Ok(())
    })
    .await?;
    // It goes on trying twice a second and more; a node of the same cluster's secret but of another cluster comes too.
    let alone = Start::new(&context, "alone").secret()?.spawn().await?;
    alone.ready().await?;
    let mut alone = alone;
    alone.stop().await?;
    let alone = Start::new(&context, "alone").secret()?.args(["--peers", &peers]).spawn().await?;
    until("the other cluster is noticed by somebody", async || {
        let told: usize = cluster.nodes.iter().map(|n| count(&n.process.output(), "belongs to another cluster;")).sum();
        ensure!(told >= 1, "nobody tells");
        Ok(())
    })
    .await?;
    for node in &cluster.nodes {
        let output = node.process.output();
        let mut told = BTreeSet::new();
        for line in output.lines().filter(|line| line.contains("refused a peer") || line.contains("another cluster;")) {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let about = format!("{} {} {}", line["address"], line["reason"], line["other"]);
            ensure!(told.insert(about), "told again: {line}");
        }
    }
    ensure!(count(&stranger.process.output(), "did not prove that it knows this node's secret") == 3);
    ensure!(alone.api.status().await?["cluster"] != cluster.nodes[0].cluster_id().await?.as_str());
    Ok(())
}

/// What must not be found in the open, wherever Roo keeps or shows something of its own.
const MARKS: [&[u8]; 4] = [b"PRIVATE KEY", b"BEGIN CERTIFICATE", b"\"key_pem\"", b"\"digest\""];

#[tokio::test]
async fn keys_are_sealed_wherever_they_are_kept_and_shown_nowhere() -> Result<()> {
    let context = Context::new();
    let mut node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    node.route("sealed.localhost:https", "http://127.0.0.1:9").await?;
    serves(&node, &node.https_client().await?).await?;
    node.api.call(Method::POST, "/roo/v1/tokens", json!({ "name": "ci", "admin": true }).to_string()).await?;
    // Marks are found if they are there: a value of somebody else is not sealed.
    node.api.put("open", "PRIVATE KEY of nobody").await?;
    ensure!(files::hold(&context.path("node"), b"PRIVATE KEY of nobody")?, "the search finds nothing");
    node.api.call(Method::DELETE, "/roo/v1/kv/open", "").await?;
    let others = Start::new(&context, "others").secret()?.spawn().await?;
    others.ready().await?;
    others.route("sealed.localhost:https", "http://127.0.0.1:9").await?;
    serves(&others, &others.https_client().await?).await?;
    for path in ["/roo/v1/kvs", "/roo/v1/status", "/roo/v1/certs", "/roo/v1/tokens", "/metrics", "/roo/v1/secret"] {
        let answer = others.api.get(path).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        open_text(path, &decoded(&answer.text()))?;
    }
    // A backup and a snapshot are copies of all of it, in which what is not sealed would be seen.
    others.api.put("mine", "kept in the open").await?;
    let backup = others.api.get("/roo/v1/backup").await?;
    ensure!(backup.status == 200 && files::holds(&backup.body, b"kept in the open"), "the backup shows nothing");
    open_text("the backup", &backup.body)?;
    let filler = "f".repeat(1 << 20);
    until("there is a snapshot", async || {
        others.api.put("filler", filler.clone()).await?;
        ensure!(files::hold(&context.path("others/snapshots"), b"kept in the open")?);
        Ok(())
    })
    .await?;
    let mut others = others;
    others.stop().await?;
    nothing_open_below(&context.path("others"))?;
    open_text("the log", others.process.output().as_bytes())?;
    node.stop().await
}

/// An answer with what is in base64 in it decoded behind it.
fn decoded(text: &str) -> Vec<u8> {
    let parts = text.split('"').filter_map(|part| STANDARD.decode(part).ok()).flatten();
    text.bytes().chain(parts).collect()
}

fn open_text(place: &str, text: &[u8]) -> Result<()> {
    for mark in MARKS {
        ensure!(!files::holds(text, mark), "{place} shows {}", String::from_utf8_lossy(mark));
    }
    Ok(())
}

fn nothing_open_below(dir: &Path) -> Result<()> {
    for mark in MARKS {
        ensure!(!files::hold(dir, mark)?, "{} holds {}", dir.display(), String::from_utf8_lossy(mark));
    }
    Ok(())
}
