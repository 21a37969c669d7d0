//! **No request fails**: not over rolling updates, scale-downs and drains of nodes, nor when Roo itself is updated, at
//! [`RATE`](crate::traffic::RATE) requests a second with downloads and WebSockets among them. Where tasks are killed, none that could be
//! asked again.

use anyhow::{Result, ensure};

use crate::deploy::{self, Trust};
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::options::rounds;
use crate::polled;
use crate::stage::{SERVICE, TASKS, old_tasks_end, service, traffic, update};
use crate::support::wait::until;
use crate::traffic::{Kind, Report};

/// How many tasks are left when the service is scaled down.
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
    Event::Scale(TASKS),
    Event::Update("start-first"),
    Event::Drain(3),
    Event::Scale(FEW),
    Event::Update("start-first"),
    Event::Scale(TASKS),
    Event::Update("stop-first"),
];

/// All of it on one fleet: forming clusters is another test's.
pub async fn no_request_fails(fleet: &mut Fleet) -> Result<()> {
    deploy::roo(fleet, Trust::Secret).await?;
    service(fleet).await?;
    events(fleet).await?;
    kills(fleet).await?;
    roo_is_updated(fleet).await?;
    polled::that_way_loses_requests(fleet).await
}

async fn events(fleet: &Fleet) -> Result<()> {
    let traffic = traffic(fleet).await?;
    for event in EVENTS.iter().cycle().take(rounds(EVENTS.len(), 100)) {
        let before = traffic.so_far();
        happens(fleet, *event).await?;
        let report = traffic.so_far().since(&before);
        step(&format!("{event:?}: {report}"));
        let is_drain = matches!(event, Event::Drain(_));
        ensure!(is_drain || report.refused == 0, "a node that was not drained let nobody in");
    }
    none_failed(&traffic.end().await?)
}

/// Tasks that are killed take with them what they have begun; all else is to be answered by others.
async fn kills(fleet: &Fleet) -> Result<()> {
    let traffic = traffic(fleet).await?;
    for round in 0..rounds(10, 100) {
        let node = fleet.node(round % fleet.nodes().len() + 1);
        let Ok(container) = node.container(SERVICE).await else { continue };
        node.docker(&["kill", "-s", "KILL", &container]).await?;
        deploy::running(fleet.node(1), SERVICE, TASKS).await?;
    }
    let report = traffic.end().await?;
    step(&format!("tasks are killed: {report}"));
    let lost = report.failures.iter().filter(|failure| failure.kind != Kind::Post && !failure.begun).count();
    ensure!(lost == 0, "{lost} requests failed that could have been asked again");
    Ok(())
}

/// Roo goes from node to node; what it has let in is answered.
async fn roo_is_updated(fleet: &Fleet) -> Result<()> {
    let traffic = traffic(fleet).await?;
    for _ in 0..rounds(1, 10) {
        update(fleet.node(1), deploy::ROO, &["--update-delay", "1s"]).await?;
        step(&format!("Roo is updated: {}", traffic.so_far()));
    }
    none_failed(&traffic.end().await?)
}

fn none_failed(report: &Report) -> Result<()> {
    step(&report.to_string());
    ensure!(report.failures.is_empty(), "{} requests failed", report.failures.len());
    Ok(())
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
            let id = fleet.node(number).id().await?;
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
