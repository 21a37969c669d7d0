//! Nodes on file systems that are really full. They are small ones in memory, which only root can mount.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Start, formed};
use crate::support::context::Context;
use crate::support::wait::until;
use crate::support::{Result, ensure};

const VALUE_BYTES: usize = 4000;

/// A small file system, as long as this lives.
struct Small {
    dir: PathBuf,
}

impl Small {
    /// Mounts one; `None`, with the reason on standard error, if that may not be done here.
    fn mount(dir: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(dir)?;
        let options = "size=128m,mode=0700";
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir).output();
        match output {
            Ok(output) if output.status.success() => Ok(Some(Self { dir: dir.to_owned() })),
            Ok(output) => {
                eprintln!("skipped: only root can mount a file system: {}", String::from_utf8_lossy(&output.stderr));
                Ok(None)
            }
            Err(error) => {
                eprintln!("skipped: there is no mount(8): {error}");
                Ok(None)
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Leaves no byte free.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        let mut block = vec![1; 1 << 20];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        Ok(())
    }

    /// Leaves some bytes free.
    fn shorten(&self, free: u64) -> Result<()> {
        let file = File::options().write(true).open(self.ballast())?;
        Ok(file.set_len(file.metadata()?.len().saturating_sub(free))?)
    }

    fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a process may be about to end.
        drop(Command::new("umount").arg("-l").arg(&self.dir).output());
    }
}

/// Writes one key after the other.
struct Writer {
    api: Api,
    next: usize,
    acknowledged: Vec<usize>,
}

impl Writer {
    fn new(api: &Api) -> Self {
        Self { api: api.clone(), next: 0, acknowledged: Vec::new() }
    }

    /// Writes the next key; returns the status and the code of an error.
    async fn write(&mut self) -> Result<(u16, String)> {
        let number = self.next;
        self.next += 1;
        let answer = self.api.call(Method::PUT, &format!("/roo/v1/kv/k{number}"), value(number)).await?;
        if answer.status == 200 {
            self.acknowledged.push(number);
            return Ok((200, String::new()));
        }
        Ok((answer.status.as_u16(), answer.json()?["code"].as_str().unwrap_or_default().to_owned()))
    }

    async fn write_until(&mut self, status: u16) -> Result<()> {
        until(&format!("a write is answered by {status}"), async || {
            let (found, code) = self.write().await?;
            ensure!(found == status, "{found} {code}");
            Ok(())
        })
        .await
    }

    /// All that was acknowledged is there.
    async fn check(&self, api: &Api) -> Result<()> {
        for number in &self.acknowledged {
            ensure!(api.value(&format!("k{number}")).await? == Some(value(*number)), "k{number} is lost");
        }
        Ok(())
    }
}

fn value(number: usize) -> String {
    format!("{number}-").repeat(VALUE_BYTES).chars().take(VALUE_BYTES).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() -> Result<()> {
    let context = Context::new();
    let Some(small) = Small::mount(&context.path("node"))? else { return Ok(()) };
    let start = Start::new(&context, "node");
    let mut node = start.spawn().await?;
    node.ready().await?;
    let api = node.api.clone();
    let mut writer = Writer::new(&api);
    for _ in 0..50 {
        writer.write().await?;
    }
    ensure!(writer.acknowledged.len() == 50, "{:?}", writer.acknowledged);

    small.fill()?;
    writer.write_until(507).await?;
    ensure!(writer.write().await? == (507, "disk-full".to_owned()));
    ensure!(api.status().await?["disk_full"] == true);
    let ready = api.get("/readyz").await?;
    ensure!(ready.status == 503 && ready.text().contains("[-] disk"), "{}", ready.text());
    ensure!(api.get("/livez").await?.status == 200);
    writer.check(&api).await?;

    // Nearly full: what makes room is still taken.
    small.shorten(16 << 20)?;
    until("a key can be deleted", async || {
        let deleted = api.call(Method::DELETE, "/roo/v1/kv/k0", "").await?;
        ensure!(deleted.status == 200, "{}", deleted.text());
        Ok(())
    })
    .await?;
    writer.acknowledged.retain(|number| *number != 0);
    ensure!(writer.write().await?.0 == 507);

    small.empty()?;
    writer.write_until(200).await?;
    node.ready().await?;
    node.process.kill().await?;
    node = start.spawn().await?;
    node.ready().await?;
    writer.check(&node.api).await?;
    ensure!(node.api.value("k0").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_leader_whose_disk_is_full_hands_over() -> Result<()> {
    let context = Context::new();
    let mut disks = Vec::new();
    for k in 0..3 {
        let Some(small) = Small::mount(&context.path(&format!("node-{k}")))? else { return Ok(()) };
        disks.push(small);
    }
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let leader = cluster.leader().await?;
    let api = cluster.nodes[leader].api.clone();
    let mut writer = Writer::new(&api);
    writer.write_until(200).await?;
    disks[leader].fill()?;
    until("another node leads", async || {
        writer.write().await?;
        let status = cluster.nodes[(leader + 1) % 3].api.status().await?;
        let leads = |node: &serde_json::Value| node["id"] == status["leader"] && !status["leader"].is_null();
        ensure!(cluster.leader().await? != leader, "{status}");
        ensure!(status["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(leads)), "{status}");
        Ok(())
    })
    .await?;
    // The node itself passes writes on.
    writer.write_until(200).await?;
    disks[leader].empty()?;
    for node in &mut cluster.nodes {
        node.process.kill().await?;
    }
    for (node, start) in cluster.nodes.iter_mut().zip(&cluster.starts) {
        *node = start.spawn().await?;
    }
    formed(&cluster.nodes).await?;
    for node in &cluster.nodes {
        writer.check(&node.api).await?;
    }
    Ok(())
}
