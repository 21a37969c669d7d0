//! A cluster of processes mends itself: votes move, the dead leave, the returned join, and a wreck is rescued.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use http::Method;
use serde_json::Value;

use crate::support::api::Answer;
use crate::support::cluster::{Cluster, Node, Start, free_addresses};
use crate::support::context::{Context, roo_bin};
use crate::support::wait::until;
use crate::support::{Result, ensure};
use anyhow::Context as _;

/// The shortest that has an effect.
const DEAD_AFTER: [&str; 2] = ["--dead-after", "6s"];

#[tokio::test]
async fn a_dead_voter_is_removed_after_the_grace_and_joins_again_when_it_is_back() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &DEAD_AFTER).await?;
    let spare = late(&context, &cluster, "spare", &DEAD_AFTER).await?;
    members(&cluster.nodes[0], &[("voter", 3), ("learner", 1)]).await?;
    let gone = (cluster.leader().await? + 1) % 3;
    let id = cluster.nodes[gone].id().await?;
    cluster.nodes[gone].process.kill().await?;
    members(&spare, &[("voter", 3), ("learner", 0)]).await?;
    cluster.nodes[(gone + 1) % 3].api.put("while-away", "x").await?;

    cluster.nodes[gone] = cluster.starts[gone].spawn().await?;
    members(&spare, &[("voter", 3), ("learner", 1)]).await?;
    cluster.nodes[gone].ready().await?;
    ensure!(cluster.nodes[gone].id().await? == id, "it has another identity");
    ensure!(cluster.nodes[gone].api.value("while-away").await?.as_deref() == Some("x"));
    Ok(())
}

#[tokio::test]
async fn the_third_voter_keeps_its_place_when_it_is_dead_and_helps_when_another_is_lost() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &DEAD_AFTER).await?;
    let first = (cluster.leader().await? + 1) % 3;
    let (second, left) = ((first + 1) % 3, (first + 2) % 3);
    let id = cluster.nodes[first].id().await?;
    cluster.nodes[first].process.kill().await?;
    until("it is silent for much longer than the grace", async || {
        let rows = cluster.nodes[left].nodes().await?;
        let row = rows.iter().find(|row| row["id"] == id.as_str()).context("it is no member any more")?;
        let heard = UNIX_EPOCH + Duration::from_millis(row["last_heard"].as_u64().context("it was never heard")?);
        ensure!(heard.elapsed()? > Duration::from_secs(15), "{row}");
        Ok(())
    })
    .await?;
    members(&cluster.nodes[left], &[("voter", 3), ("learner", 0)]).await?;
    cluster.nodes[left].api.put("with-two", "x").await?;

    cluster.nodes[second].process.kill().await?;
    cluster.nodes[first] = cluster.starts[first].spawn().await?;
    let back = &cluster.nodes[first].api;
    until("two of the three write", async || back.put("with-the-other-two", "x").await).await?;
    ensure!(back.value("with-two").await?.as_deref() == Some("x"));
    Ok(())
}

#[tokio::test]
async fn a_learner_takes_the_vote_of_a_dead_voter() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &["--dead-after", "1h"]).await?;
    let spare = late(&context, &cluster, "spare", &["--dead-after", "1h"]).await?;
    members(&cluster.nodes[0], &[("voter", 3), ("learner", 1)]).await?;
    let gone = (cluster.leader().await? + 1) % 3;
    let dead = cluster.nodes[gone].id().await?;
    cluster.nodes[gone].process.kill().await?;
    until("the spare node votes", async || {
        let rows = spare.nodes().await?;
        let role = |id: &str| rows.iter().find(|row| row["id"] == id).map(|row| row["role"].clone());
        ensure!(role(&spare.id().await?).is_some_and(|role| role != "learner"), "{rows:?}");
        ensure!(role(&dead).is_some_and(|role| role == "learner"), "{rows:?}");
        Ok(())
    })
    .await?;
    // The second loss, which three voters of which one is dead would not survive.
    let second = (gone + 1) % 3;
    cluster.nodes[second].process.kill().await?;
    until("the rest goes on", async || spare.api.put("k", "v").await).await
}

#[tokio::test]
async fn a_node_whose_disk_is_lost_joins_as_a_new_one_and_its_old_self_leaves_at_once() -> Result<()> {
    let context = Context::new();
    let more = ["--dead-after", "1h"];
    let mut cluster = Cluster::start(&context, 3, &more).await?;
    let gone = (cluster.leader().await? + 1) % 3;
    let old = cluster.nodes[gone].id().await?;
    cluster.nodes[(gone + 1) % 3].api.put("kept", "yes").await?;
    cluster.nodes[gone].process.kill().await?;
    std::fs::remove_dir_all(context.path(&format!("node-{gone}")))?;
    cluster.nodes[gone] = cluster.starts[gone].spawn().await?;
    cluster.formed().await.context("three voters again, the lost one not among them")?;
    ensure!(cluster.nodes[gone].id().await? != old);
    ensure!(cluster.nodes[gone].api.value_at("kept", "stale").await?.as_deref() == Some("yes"));
    Ok(())
}

#[tokio::test]
async fn by_hand_nodes_are_removed_promoted_demoted_and_lead() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &["--dead-after", "1h"]).await?;
    let leader = cluster.leader().await?;
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    let (first, second) = (cluster.nodes[one].id().await?, cluster.nodes[two].id().await?);

    // Leadership moves on demand, asked of any node.
    let moved = cluster.nodes[two].change(Method::POST, &format!("{first}/transfer")).await?;
    ensure!(moved.status == 200, "{}", moved.text());
    until("the chosen node leads", async || {
        ensure!(cluster.nodes[one].api.status().await?["role"] == "leader");
        Ok(())
    })
    .await?;

    // Held nodes stay learners until they are promoted.
    let demoted = cluster.nodes[leader].change(Method::POST, &format!("{second}/demote")).await?;
    ensure!(demoted.status == 200, "{}", demoted.text());
    members(&cluster.nodes[leader], &[("voter", 2), ("learner", 1)]).await?;
    let promoted = cluster.nodes[leader].change(Method::POST, &format!("{second}/promote")).await?;
    ensure!(promoted.status == 200, "{}", promoted.text());
    members(&cluster.nodes[leader], &[("voter", 3), ("learner", 0)]).await?;

    // A node that is up is not removed by mistake, and removed by force it stays out until it is restarted.
    let refused = cluster.nodes[leader].change(Method::DELETE, &second).await?;
    ensure!(refused.status == 409 && refused.json()?["code"] == "node-is-up", "{}", refused.text());
    let removed = cluster.nodes[leader].change(Method::DELETE, &format!("{second}?force=true")).await?;
    ensure!(removed.status == 200, "{}", removed.text());
    until("the removed node says so", async || {
        let status = cluster.nodes[two].api.status().await?;
        ensure!(status["waiting_for"].as_str().is_some_and(|what| what.contains("removed")), "{status}");
        Ok(())
    })
    .await?;
    members(&cluster.nodes[leader], &[("voter", 2), ("learner", 0)]).await?;
    let again = cluster.nodes[leader].change(Method::DELETE, &second).await?;
    ensure!(again.status == 404 && again.json()?["code"] == "no-such-node", "{}", again.text());
    // Who asked for what, and what was said to it, is in the audit log of the node that was asked.
    noted(&cluster.nodes[leader], &second).await?;
    cluster.nodes[two].process.kill().await?;
    cluster.nodes[two] = cluster.starts[two].spawn().await?;
    cluster.formed().await
}

/// Waits until the log tells of the changes that were asked for above.
async fn noted(asked: &Node, id: &str) -> Result<()> {
    let node = format!("/roo/v1/nodes/{id}");
    let expected = [
        format!("root POST {node}/demote 200 "),
        format!("root POST {node}/promote 200 "),
        format!("root DELETE {node} 409 node-is-up"),
        format!("root DELETE {node} 200 "),
        format!("root DELETE {node} 404 no-such-node"),
    ];
    until("all is noted", async || {
        let output = asked.process.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines = lines.filter(|line| line["target"] == "roo::audit");
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let told: Vec<String> = lines
            .map(|line| {
                let [who, method, path, code] = ["who", "method", "path", "code"].map(|field| text(&line, field));
                format!("{who} {method} {path} {} {code}", line["status"])
            })
            .collect();
        ensure!(told == expected, "{told:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_would_cost_the_quorum_is_refused() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &["--dead-after", "1h"]).await?;
    let leader = cluster.leader().await?;
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    let ids = [cluster.nodes[dead].id().await?, cluster.nodes[alive].id().await?];
    cluster.nodes[dead].process.kill().await?;
    // At once, although the dead node was heard from a moment ago: the voters are asked before anything is changed.
    let refused = cluster.nodes[leader].change(Method::DELETE, &format!("{}?force=true", ids[1])).await?;
    ensure!(refused.status == 409 && refused.json()?["code"] == "unsafe-change", "{}", refused.text());
    ensure!(refused.text().contains("too few to write"), "{}", refused.text());
    let demoted = cluster.nodes[leader].change(Method::POST, &format!("{}/demote", ids[1])).await?;
    ensure!(demoted.status == 409 && demoted.json()?["code"] == "unsafe-change", "{}", demoted.text());
    // The original's path. In this order it is safe.
    let body = format!("{{\"node\": \"{}\", \"force\": true}}", ids[0]);
    let removed = cluster.nodes[alive].api.call(Method::POST, "/roo/v1/remove", body).await?;
    ensure!(removed.status == 200, "{}", removed.text());
    members(&cluster.nodes[leader], &[("voter", 2), ("learner", 0)]).await
}

#[tokio::test]
async fn of_six_nodes_five_vote_and_of_seven_all() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &DEAD_AFTER).await?;
    let mut late_nodes = Vec::new();
    for (name, voters, learners) in [("four", 3, 1), ("five", 5, 0), ("six", 5, 1), ("seven", 7, 0)] {
        late_nodes.push(late(&context, &cluster, name, &DEAD_AFTER).await?);
        members(&cluster.nodes[0], &[("voter", voters), ("learner", learners)]).await.context(name)?;
    }
    cluster.nodes[1].api.put("k", "v").await?;
    ensure!(late_nodes[3].api.value("k").await?.as_deref() == Some("v"));
    // Four of seven are enough, and those that are left shrink to what three need.
    for node in &mut late_nodes[..3] {
        node.process.kill().await?;
    }
    members(&cluster.nodes[0], &[("voter", 3), ("learner", 1)]).await?;
    cluster.nodes[2].api.put("k", "w").await
}

#[tokio::test]
async fn a_survivor_of_a_lost_majority_is_rescued_and_the_lost_are_refused() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &["--dead-after", "1h"]).await?;
    for k in 0..20 {
        cluster.nodes[k % 3].api.put(&format!("k/{k}"), "v").await?;
    }
    let former = cluster.nodes[0].cluster_id().await?;
    let refused = cluster.nodes[0].rescue(&["--yes"]).await?;
    ensure!(refused.0 == Some(1) && refused.1.contains("nothing to rescue"), "{}", refused.1);

    let survivor = cluster.leader().await?;
    let lost = [(survivor + 1) % 3, (survivor + 2) % 3];
    for node in lost {
        cluster.nodes[node].process.kill().await?;
    }
    let unconfirmed = cluster.nodes[survivor].rescue(&[]).await?;
    ensure!(unconfirmed.0 == Some(2) && unconfirmed.1.contains("--yes"), "{}", unconfirmed.1);
    let rescued = cluster.nodes[survivor].api.call(Method::POST, "/roo/v1/rescue", "{\"yes\": true}").await?;
    ensure!(rescued.status == 200, "{}", rescued.text());
    let id = rescued.json()?["cluster"].as_str().unwrap_or_default().to_owned();
    ensure!(rescued.json()?["former"] == former.as_str() && id != former);

    cluster.starts[survivor].follow(&mut cluster.nodes[survivor]).await?;
    let alone = &cluster.nodes[survivor];
    alone.ready().await?;
    ensure!(alone.cluster_id().await? == id);
    for k in 0..20 {
        ensure!(alone.api.value(&format!("k/{k}")).await?.as_deref() == Some("v"), "k/{k} is lost");
    }
    alone.api.put("after", "x").await?;

    // One comes back as it was: it is refused, says why, and ends; and it does not start like this any more.
    let back = cluster.starts[lost[0]].spawn().await?;
    cluster.nodes[lost[0]] = back;
    let ended = cluster.nodes[lost[0]].process.wait().await?;
    let said = cluster.nodes[lost[0]].process.output();
    ensure!(!ended.success() && said.contains("was rescued as") && said.contains("empty"), "{said}");

    // Both join with empty directories.
    for node in lost {
        std::fs::remove_dir_all(context.path(&format!("node-{node}")))?;
        cluster.nodes[node] = cluster.starts[node].spawn().await?;
    }
    cluster.formed().await?;
    for node in &cluster.nodes {
        ensure!(node.cluster_id().await? == id);
        ensure!(node.api.value_at("k/7", "stale").await?.as_deref() == Some("v"));
    }
    Ok(())
}

#[tokio::test]
async fn status_tells_what_is_the_matter_with_each_node() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &["--dead-after", "1h"]).await?;
    let leader = cluster.leader().await?;
    let gone = (leader + 1) % 3;
    let id = cluster.nodes[gone].id().await?;
    cluster.nodes[gone].process.kill().await?;
    for k in 0..10 {
        cluster.nodes[leader].api.put(&format!("k/{k}"), "v").await?;
    }
    until("the leader tells who is silent and how far behind", async || {
        let status = cluster.nodes[leader].api.status().await?;
        let row = status["nodes"].as_array().into_iter().flatten().find(|row| row["id"] == id.as_str());
        let row = row.context("no row")?;
        ensure!(row["state"] == "unreachable" && row["last_heard"].as_u64() > Some(0), "{row}");
        ensure!(row["behind"].as_u64() >= Some(10), "{row}");
        ensure!(status["voters"].as_array().map(Vec::len) == Some(3), "{status}");
        ensure!(status["disk"]["log"].as_u64() > Some(0), "{status}");
        Ok(())
    })
    .await
}

/// Starts another node with the address of the first.
async fn late(context: &Context, cluster: &Cluster, name: &str, more: &[&str]) -> Result<Node> {
    let peers = cluster.nodes[0].raft.to_string();
    let address: SocketAddr = free_addresses(1)?.remove(0);
    let start = Start::new(context, name).raft(address).secret()?.args(["--peers", &peers]).args(more.iter().copied());
    let node = start.spawn().await?;
    node.ready().await?;
    Ok(node)
}

/// Waits until the node knows of so many voters and learners.
async fn members(node: &Node, expected: &[(&str, usize)]) -> Result<()> {
    until("the membership is as expected", async || {
        let rows = node.nodes().await?;
        for (role, count) in expected {
            let found = rows.iter().filter(|row| (row["role"] == "learner") == (*role == "learner")).count();
            ensure!(found == *count, "{expected:?}: {rows:?}");
        }
        Ok(())
    })
    .await
}

impl Node {
    async fn id(&self) -> Result<String> {
        self.api.status().await?["node"].as_str().map(str::to_owned).context("no id")
    }

    async fn nodes(&self) -> Result<Vec<Value>> {
        self.api.get("/roo/v1/nodes").await?.json()?.as_array().cloned().context("no list")
    }

    async fn change(&self, method: Method, rest: &str) -> Result<Answer> {
        self.api.call(method, &format!("/roo/v1/nodes/{rest}"), "").await
    }

    /// The exit code of `roo rescue`, and what it prints.
    async fn rescue(&self, args: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = tokio::process::Command::new(roo_bin());
        command.arg("rescue").args(["--addr", &self.api.address.to_string()]).args(args);
        if let Some(token) = &self.api.token {
            command.args(["--token", token]);
        }
        let output = command.kill_on_drop(true).output().await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    }
}
