//! The service behind Roo and the clients before it, and what is done to the service.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::Value;

use crate::deploy;
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::support::https::Https;
use crate::support::wait::until;
use crate::traffic::{RATE, Traffic};

pub const HOST: &str = "shop.test";
pub const SERVICE: &str = "shop";
/// Tasks of the service.
pub const TASKS: usize = 4;
/// For all tasks to be replaced, one after the other, when each has its time to stop.
const UPDATE_WITHIN: Duration = Duration::from_secs(300);

/// The service, with its tasks and a time to stop that is long enough for what they do.
pub async fn service(fleet: &Fleet) -> Result<()> {
    let (tasks, manager) = (TASKS.to_string(), fleet.node(1));
    let host = format!("roo.host={HOST}");
    let tasks = ["--replicas", &tasks, "--stop-grace-period", "30s", "--restart-delay", "100ms"];
    let updates = ["--update-parallelism", "2", "--update-monitor", "100ms", "--label", &host];
    deploy::origin(manager, SERVICE, &[&tasks[..], &updates].concat()).await?;
    deploy::running(manager, SERVICE, TASKS).await
}

/// Clients, once every node answers for the host.
pub async fn traffic(fleet: &Fleet) -> Result<Traffic> {
    let https = until("Roo's own root is there", async || {
        Https::trusting(&deploy::verb(fleet.node(1), &["ca", "root"]).await?)
    })
    .await?;
    let addresses: Vec<SocketAddr> = fleet.nodes().iter().map(|node| SocketAddr::from((node.address, 443))).collect();
    for address in &addresses {
        until("the service answers", async || {
            let answer = https.get(*address, HOST, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
    }
    step(&format!("{RATE} requests a second"));
    Ok(Traffic::start(addresses, HOST, https))
}

/// Replaces all tasks of a service and waits until that is done.
pub async fn update(manager: &Engine, service: &str, options: &[&str]) -> Result<()> {
    let before = updated(manager, service).await?;
    manager.docker(&[&["service", "update", "--detach", "--force"], options, &[service]].concat()).await?;
    let deadline = Instant::now() + UPDATE_WITHIN;
    loop {
        let now = updated(manager, service).await?;
        if now != before && now["State"] == "completed" {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the update is not done: {now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn updated(manager: &Engine, service: &str) -> Result<Value> {
    let found = manager.ask(Method::GET, &format!("/services/{service}"), None).await?.json()?;
    Ok(found["UpdateStatus"].clone())
}

/// Waits until no container of the service is left that is not meant to be.
pub async fn old_tasks_end(fleet: &Fleet, manager: &Engine) -> Result<()> {
    until("the old tasks have ended", async || {
        let mut running = 0;
        for node in fleet.nodes() {
            let label = format!("label=com.docker.swarm.service.name={SERVICE}");
            running += node.docker(&["ps", "-q", "--filter", &label]).await?.lines().count();
        }
        let replicas = manager.ask(Method::GET, &format!("/services/{SERVICE}"), None).await?.json()?;
        let meant = replicas["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().context("replicas")?;
        ensure!(running as u64 == meant, "{running} of {meant} run");
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    })
    .await
}
