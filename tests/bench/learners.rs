//! Voters with many learners: what the learners cost the writers, and how far behind they are.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::client::{self, Action};
use crate::options::Options;
use crate::series::Series;
use crate::store::Dialect;
use crate::support::cluster::{Node, Start, free_addresses, tail};
use crate::support::context::Context;

/// The first nodes, which vote.
const FIRST: u8 = 3;
const MORE: u8 = 20;
const QUICK_MORE: u8 = 2;
const CLIENTS: usize = 64;
const PROBES: usize = 20;

/// A figure beyond this is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures; gives a section in Markdown.
pub async fn run(options: &Options) -> Result<String> {
    let more = if options.quick { QUICK_MORE } else { MORE };
    let context = Context::new();
    let mut nodes = Vec::new();
    let addresses = free_addresses(FIRST)?;
    let peers = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let start = |name: String| {
        Ok::<_, anyhow::Error>(Start::new(&context, &name).secret()?.args(["--peers", &peers, "--voters-max", "3"]))
    };
    for (k, address) in addresses.iter().enumerate() {
        nodes.push(start(format!("first-{k}"))?.raft(*address).spawn().await?);
    }
    for node in &nodes {
        node.ready().await?;
    }
    let alone = load(options, &nodes).await?;
    for k in 0..more {
        let node = start(format!("more-{k}"))?.spawn().await?;
        node.ready().await?;
        nodes.push(node);
    }
    let crowded = load(options, &nodes[..usize::from(FIRST)]).await?;
    let mut last = Series::default();
    for k in 0..PROBES {
        last.push(seen_by_all(&nodes, &format!("probe/{k}")).await?);
    }
    let status = nodes.first().context("no node")?.api.status().await?;
    let members = status["nodes"].as_array().cloned().unwrap_or_default();
    let learners = members.iter().filter(|member| member["role"] == "learner").count();
    let voters = members.len() - learners;
    let mut text = format!(
        "\n### {voters} voters and {learners} learners\n\nAll on this machine; {CLIENTS} clients write to {FIRST} of them.\n\n"
    );
    text += "| | median | highest |\n|---|--:|--:|\n";
    writeln!(text, "| writes/s with {FIRST} nodes | {:.0} | {:.0} |", alone.median(), alone.highest())?;
    writeln!(text, "| writes/s with all | {:.0} | {:.0} |", crowded.median(), crowded.highest())?;
    writeln!(text, "| a single write until every node shows it, ms | {:.1} | {:.1} |", last.median(), last.highest())?;
    Ok(text)
}

async fn load(options: &Options, nodes: &[Node]) -> Result<Series> {
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.api.address).collect();
    let token = nodes.first().and_then(|node| node.api.token.clone()).context("no token")?;
    let dialect = Dialect::Roo { token };
    let mut rates = Series::default();
    for _ in 0..options.rounds {
        let done = client::run(Action::Write, CLIENTS, &addresses, &dialect, options.round()).await?;
        rates.push(done.per_second());
    }
    Ok(rates)
}

/// Milliseconds from the begin of a write until every node has it applied.
async fn seen_by_all(nodes: &[Node], key: &str) -> Result<f64> {
    let begin = Instant::now();
    nodes.first().context("no node")?.api.put(key, "x").await?;
    for node in nodes {
        while node.api.value_at(key, "stale").await?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "{key} is not on a node:\n{}", tail(&node.process.output()));
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}
