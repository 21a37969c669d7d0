//! One node as a process that the harness starts, ends and breaks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::{Mutex, watch};

use crate::links::{self, Links};
use crate::shim::Control;
use crate::support::api::Api;
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;

/// A node.
pub struct Member {
    pub number: usize,
    pub control: Control,
    start: Start,
    data: PathBuf,
    links: Arc<Links>,
    /// The process while it runs. Held while it is down, so that one fault at a time takes it down.
    process: Mutex<Option<Node>>,
    api: watch::Sender<Option<Api>>,
}

impl Member {
    /// Plans the node with this number; `shim` is loaded into it.
    pub fn plan(context: &Context, shim: &Path, links: &Arc<Links>, number: usize, voters: usize) -> Result<Self> {
        let control = Control::create(context.path(&format!("control-{number}")))?;
        let peers = links.addresses[..voters].iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let ip = links::ip(number);
        let start = Start::new(context, &format!("node-{number}"))
            .raft((ip, 0).into())
            .without_authority()
            .secret()?
            .args(["--acme-directory", "off", "--start-delay", "200ms", "--peers", &peers])
            .args(["--advertise", &links.addresses[number].to_string()])
            .environment("LD_PRELOAD", shim)
            .environment("CHAOS_CONTROL", &control.path)
            .environment("CHAOS_ADDRESS", ip.to_string());
        Ok(Self {
            number,
            control,
            start,
            data: context.path(&format!("node-{number}")),
            links: Arc::clone(links),
            process: Mutex::default(),
            api: watch::Sender::default(),
        })
    }

    /// Starts it, if it does not run.
    pub async fn start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        self.start_in(&mut process).await
    }

    async fn start_in(&self, process: &mut Option<Node>) -> Result<()> {
        if process.is_some() {
            return Ok(());
        }
        let node = self.start.spawn().await.with_context(|| format!("start node {}", self.number))?;
        self.links.lead_to(self.number, node.raft);
        self.api.send_replace(Some(node.api.clone()));
        *process = Some(node);
        Ok(())
    }

    /// Ends it by `kill -9`, keeps it down for a time and starts it again. Does nothing if it is down already.
    pub async fn kill_for(&self, down: Duration) -> Result<()> {
        let Ok(mut process) = self.process.try_lock() else { return Ok(()) };
        if let Some(mut node) = process.take() {
            node.process.kill().await?;
        }
        tokio::time::sleep(down).await;
        self.start_in(&mut process).await
    }

    /// Lets it leave the cluster by `leaving`, and starts it again after a time: the same node, or one with an empty disk
    /// if `leaving` says that the others no longer count on it. No other fault takes it down meanwhile, since a node
    /// that was started again may have become a member again.
    pub async fn leave_for(&self, out: Duration, new_disk: bool, leaving: impl Future<Output = bool>) -> Result<()> {
        let Ok(mut process) = self.process.try_lock() else { return Ok(()) };
        let left = leaving.await;
        if !new_disk {
            tokio::time::sleep(out).await;
        }
        if let Some(mut node) = process.take() {
            node.process.kill().await?;
        }
        if new_disk && left {
            std::fs::remove_dir_all(&self.data)?;
            tokio::time::sleep(out).await;
        }
        self.start_in(&mut process).await
    }

    /// Asks it to end, kills it if it does not do so in time, and starts it again.
    pub async fn stop_for(&self, down: Duration) -> Result<()> {
        let Ok(mut process) = self.process.try_lock() else { return Ok(()) };
        if let Some(mut node) = process.take() {
            node.process.signal("TERM").await?;
            // It may be paused, or its disk may hang.
            if tokio::time::timeout(STOP_PATIENCE, node.process.wait()).await.is_err() {
                node.process.kill().await?;
            }
        }
        tokio::time::sleep(down).await;
        self.start_in(&mut process).await
    }

    /// Sends a signal, if it runs.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let Ok(process) = self.process.try_lock() else { return Ok(()) };
        let Some(node) = process.as_ref() else { return Ok(()) };
        node.process.signal(signal).await
    }

    /// The API where it was last seen; `None` before the first start.
    pub fn api(&self) -> Option<Api> {
        self.api.borrow().clone()
    }

    /// The id by which the cluster knows it, if it tells.
    pub async fn id(&self) -> Option<String> {
        let status = tokio::time::timeout(STATUS_PATIENCE, self.api()?.status()).await.ok()?.ok()?;
        status["node"].as_str().map(str::to_owned)
    }

    /// Fails if the process ended by itself.
    pub async fn check_running(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        let node = process.as_mut().context("it was not started again")?;
        let running = node.process.is_running();
        anyhow::ensure!(running, "it ended by itself:\n{}", crate::support::cluster::tail(&node.process.output()));
        Ok(())
    }

    /// Whether it says that it is a member of a cluster that has a leader.
    pub async fn is_ready(&self) -> bool {
        let Some(api) = self.api() else { return false };
        let asked = tokio::time::timeout(STATUS_PATIENCE, api.status()).await;
        asked.is_ok_and(|status| status.is_ok_and(|status| status["state"] == "ready"))
    }

    /// Waits until it is ready.
    pub async fn ready(&self) -> Result<()> {
        self.process.lock().await.as_ref().context("it does not run")?.ready().await
    }
}

/// How long it may take to tell about itself.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// How long an orderly end may take.
const STOP_PATIENCE: Duration = Duration::from_secs(4);
