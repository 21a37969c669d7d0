//! Many watchers on one prefix: how long until the last of them has seen a write.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::options::Options;
use crate::series::Series;
use crate::support::cluster::{Cluster, Node};
use crate::support::context::Context;
use crate::{cpu, machine};

const WATCHERS: usize = 10_000;
const QUICK_WATCHERS: usize = 100;
const WRITES: usize = 20;

/// A figure beyond this is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures; gives a section in Markdown.
pub async fn run(options: &Options) -> Result<String> {
    let count = if options.quick { QUICK_WATCHERS } else { WATCHERS };
    let context = Context::new();
    let cluster = Cluster::start(&context, 1, &[]).await?;
    let node = cluster.nodes.first().context("no node")?;
    let pid = node.process.id().context("the node has ended")?;
    let before = machine::memory(pid)?;

    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for _ in 0..count {
        let token = node.api.token.clone().unwrap_or_default();
        let stream = open(node.api.address, &token).await?;
        watchers.spawn(follow(stream, seen.clone()));
    }
    // Each is known to follow once it has seen this.
    write_and_wait(node, "ready", count, &mut arrivals).await?;
    let memory = machine::memory(pid)?.saturating_sub(before);
    let (mut all, mut write) = (Series::default(), Series::default());
    let start = cpu::spent(&[pid])?;
    for k in 0..WRITES {
        let (answered, last) = write_and_wait(node, &format!("write-{k}"), count, &mut arrivals).await?;
        write.push(answered);
        all.push(last);
    }
    let spent = (cpu::spent(&[pid])? - start).as_secs_f64() * 1e6 / (WRITES * count) as f64;
    watchers.shutdown().await;
    let mut text =
        format!("\n### {count} watchers of one prefix\n\nOne node, server-sent events, {WRITES} writes.\n\n");
    text += "| | median | highest |\n|---|--:|--:|\n";
    writeln!(text, "| write acknowledged, ms | {:.1} | {:.1} |", write.median(), write.highest())?;
    writeln!(text, "| the last watcher has the event, ms | {:.0} | {:.0} |", all.median(), all.highest())?;
    writeln!(
        text,
        "\nCPU of the node per event and watcher: {spent:.1} µs; memory per watcher: {} B.",
        memory / count as u64
    )?;
    Ok(text)
}

async fn open(address: SocketAddr, token: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET /roo/v1/watch/many/ HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Tells of each `put` that arrives, until the connection ends.
async fn follow(mut stream: TcpStream, seen: mpsc::UnboundedSender<()>) {
    const MARK: &[u8] = b"event: put";
    let mut buffer = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        let found = buffer.windows(MARK.len()).filter(|window| *window == MARK).count();
        for _ in 0..found {
            // Nobody counts any more once the part has ended.
            let _ = seen.send(());
        }
        // A mark may be cut at the end of what was read.
        let rest = buffer.len().saturating_sub(MARK.len() - 1);
        buffer.drain(..rest);
    }
}

/// Milliseconds until the write was acknowledged, and until all watchers had it.
async fn write_and_wait(
    node: &Node,
    key: &str,
    count: usize,
    arrivals: &mut mpsc::UnboundedReceiver<()>,
) -> Result<(f64, f64)> {
    let begin = Instant::now();
    let wait = async {
        for _ in 0..count {
            arrivals.recv().await.context("all watchers have ended")?;
        }
        anyhow::Ok(begin.elapsed())
    };
    let write = async {
        node.api.put(&format!("many/{key}"), "x").await?;
        anyhow::Ok(begin.elapsed())
    };
    let both = tokio::time::timeout(PATIENCE, async { tokio::join!(write, wait) }).await;
    let (answered, last) = both.with_context(|| format!("not all {count} watchers saw {key}"))?;
    let (answered, last) = (answered?, last?);
    ensure!(arrivals.is_empty(), "an event came twice");
    Ok((answered.as_secs_f64() * 1e3, last.as_secs_f64() * 1e3))
}
