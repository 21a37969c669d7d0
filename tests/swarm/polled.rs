//! What a proxy loses that reads tasks each 15 s and hears of nothing in between, as Traefik does: so the counting of
//! failures can count some.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::deploy;
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::stage::{HOST, SERVICE, TASKS, old_tasks_end, traffic, update};
use crate::support::wait::until;

/// How often it looks.
const EACH: Duration = Duration::from_secs(15);

/// The service's label gives way to a route by hand that follows the tasks that way, through an update of the service.
pub async fn that_way_loses_requests(fleet: &Fleet) -> Result<()> {
    let manager = fleet.node(1);
    step("the tasks' addresses are read each 15 s");
    manager.docker(&["service", "update", "--detach", "--label-rm", "roo.host", SERVICE]).await?;
    until("the route by hand takes over", async || {
        write_route(manager).await?;
        let route = deploy::verb(manager, &["kv", "get", &key()]).await?;
        ensure!(route.contains("ejection"), "{route}");
        Ok(())
    })
    .await?;
    let traffic = traffic(fleet).await?;
    let follow = async {
        let mut looks = tokio::time::interval(EACH);
        looks.tick().await;
        loop {
            looks.tick().await;
            if let Err(error) = write_route(manager).await {
                step(&format!("the route could not be written: {error:#}"));
            }
        }
    };
    let updated = async {
        let at_once = TASKS.to_string();
        update(manager, SERVICE, &["--update-order", "start-first", "--update-parallelism", &at_once]).await?;
        old_tasks_end(fleet, manager).await
    };
    tokio::select! {
        never = follow => never,
        updated = updated => updated?,
    }
    let report = traffic.end().await?;
    step(&format!("it has lost {} requests: {report}", report.failures.len()));
    ensure!(!report.failures.is_empty(), "no request failed, so nothing was shown by those that did not");
    Ok(())
}

fn key() -> String {
    format!("com.roo.host:{HOST}:https")
}

/// Writes a route to the tasks that run at this moment.
async fn write_route(manager: &Engine) -> Result<()> {
    let filter = ["service", "ps", "-q", "--no-trunc", "--filter", "desired-state=running", SERVICE];
    let tasks = manager.docker(&filter).await?;
    let mut urls = Vec::new();
    for task in tasks.lines() {
        let task: Value = serde_json::from_str(&manager.docker(&["inspect", "--type", "task", task]).await?)?;
        let networks = task[0]["NetworksAttachments"].as_array().context("a task without a network")?;
        let forenet = networks.iter().find(|network| network["Network"]["Spec"]["Name"] == "forenet");
        let address =
            forenet.and_then(|network| network["Addresses"][0].as_str()).context("a task without an address")?;
        urls.push(format!("http://{}", address.split('/').next().unwrap_or_default()));
    }
    ensure!(!urls.is_empty(), "there are no tasks");
    let route = json!({ "to": urls, "ejection": { "failures": 0 }, "connect_timeout": "1s" });
    deploy::verb(manager, &["kv", "put", &key(), &route.to_string()]).await.map(drop)
}
