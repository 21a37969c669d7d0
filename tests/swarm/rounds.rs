//! **No request fails**: not over rolling updates, scale-downs and drains of nodes, at [`RATE`] requests a second with
//! downloads and WebSockets among them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::Value;

use crate::deploy::{self, Trust};
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::options::rounds;
use crate::support::https::Https;
use crate::support::wait::until;
use crate::traffic::{RATE, Traffic};

const HOST: &str = "shop.test";
const SERVICE: &str = "shop";
/// Tasks of the service, and how many are left when it is scaled down.
const MANY: usize = 4;
const FEW: usize = 2;

/// What is done to the service while clients ask.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// All tasks are replaced, some at a time: the old one first, or the new one.
    Update(&'static str),
    Scale(usize),
    /// A node is drained, which ends Roo there as well, and then is there again.
    Drain(usize),
}

const EVENTS: [Event; 10] = [
    Event::Update("stop-first"),
    Event::Scale(FEW),
    Event::Drain(2),
    Event::Scale(MANY),
    Event::Update("start-first"),
    Event::Drain(3),
    Event::Scale(FEW),
    Event::Update("start-first"),
    Event::Scale(MANY),
    Event::Update("stop-first"),
];

pub async fn no_request_fails(fleet: &mut Fleet) -> Result<()> {
    deploy::roo(fleet, Trust::Secret).await?;
    service(fleet, &["--label", "roo.host=shop.test"]).await?;
    let traffic = traffic(fleet).await?;
    for event in EVENTS.iter().cycle().take(rounds(EVENTS.len(), 100)) {
        let before = traffic.so_far();
        happens(fleet, *event).await?;
        let report = traffic.so_far().since(&before);
        step(&format!("{event:?}: {report}"));
        let is_drain = matches!(event, Event::Drain(_));
        ensure!(is_drain || report.refused == 0, "a node that was not drained let nobody in");
    }
    let report = traffic.end().await?;
    step(&report.to_string());
    ensure!(report.failures.is_empty(), "{} requests failed", report.failures.len());
    Ok(())
}

/// The service, with its tasks and a time to stop that is long enough for what they do.
async fn service(fleet: &Fleet, options: &[&str]) -> Result<()> {
    let (many, manager) = (MANY.to_string(), fleet.node(1));
    let fixed = ["--replicas", &many, "--stop-grace-period", "30s", "--restart-delay", "100ms"];
    let updates = ["--update-parallelism", "2", "--update-monitor", "100ms"];
    deploy::origin(manager, SERVICE, &[&fixed[..], &updates, options].concat()).await?;
    deploy::running(manager, SERVICE, MANY).await
}

/// Clients, once every node answers for the host.
async fn traffic(fleet: &Fleet) -> Result<Traffic> {
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

async fn happens(fleet: &Fleet, event: Event) -> Result<()> {
    let manager = fleet.node(1);
    match event {
        Event::Update(order) => update(manager, SERVICE, &["--update-order", order]).await?,
        Event::Scale(count) => {
            manager.docker(&["service", "scale", "--detach", &format!("{SERVICE}={count}")]).await?;
            deploy::running(manager, SERVICE, count).await?;
        }
        Event::Drain(number) => {
            let id = fleet.node(number).docker(&["info", "--format", "{{.Swarm.NodeID}}"]).await?;
            manager.docker(&["node", "update", "--availability", "drain", &id]).await?;
            until("the node is empty", async || {
                let left = fleet.node(number).docker(&["ps", "-q"]).await?;
                ensure!(left.is_empty(), "{left}");
                Ok(())
            })
            .await?;
            manager.docker(&["node", "update", "--availability", "active", &id]).await?;
            let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
            deploy::one_cluster(&nodes, nodes.len()).await?;
        }
    }
    old_tasks_end(fleet, manager).await
}

/// Replaces all tasks of a service and waits until that is done.
async fn update(manager: &Engine, service: &str, options: &[&str]) -> Result<()> {
    let before = updated(manager, service).await?;
    manager.docker(&[&["service", "update", "--detach", "--force"], options, &[service]].concat()).await?;
    until("the update is done", async || {
        let now = updated(manager, service).await?;
        ensure!(now != before && now["State"] == "completed", "{now}");
        Ok(())
    })
    .await
}

async fn updated(manager: &Engine, service: &str) -> Result<Value> {
    let found = manager.ask(Method::GET, &format!("/services/{service}"), None).await?.json()?;
    Ok(found["UpdateStatus"].clone())
}

/// Waits until no container of the service is left that is not meant to be.
async fn old_tasks_end(fleet: &Fleet, manager: &Engine) -> Result<()> {
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
