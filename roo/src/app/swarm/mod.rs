//! Routes from Swarm labels, and the tasks that they lead to: what the watcher sees becomes routes and instances in the
//! store, written by one node at a time.
//!
//! A route written here says so in its `source` and is taken away again when its service goes. A route that
//! somebody else wrote is never touched; a label that wants its origin is reported instead.

mod document;
mod instances;
mod notices;
mod plain;
mod plan;
mod writer;

use std::sync::Arc;

use roo_docker::{Service, Snapshot, State};
use roo_kv::Store;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lock::Locks;
use super::registrar::Registrar;
use super::routes::RouteBook;
use crate::config::DockerAt;
pub(crate) use document::{Refused, draw};
pub(crate) use instances::{PLAIN_SOURCE, SOURCE};
use plain::Plain;
pub(crate) use plain::SOURCE_PREFIX as PLAIN_SOURCE_PREFIX;
use plan::Conflict;
use writer::Writer;

/// Begins the `source` of routes that come from labels; the service's name follows.
pub(crate) const SOURCE_PREFIX: &str = "docker:";

/// Whether the instances of this source are written here, all of a kind on one lease.
pub(super) fn writes(source: &str) -> bool {
    [instances::SOURCE, instances::PLAIN_SOURCE].contains(&source)
}

/// What this node knows about the Swarm.
#[derive(Clone)]
pub(crate) struct SwarmBook {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    conflicts: watch::Receiver<Vec<Conflict>>,
    handle: roo_docker::Handle,
    locks: Locks,
    containers: watch::Receiver<Arc<Snapshot>>,
    plain_conflicts: watch::Receiver<Vec<Conflict>>,
}

impl SwarmBook {
    /// State, services with routes or tasks, problems, and the node that writes them as far as this one knows; for the API.
    pub(crate) async fn summary(&self) -> Value {
        let snapshot = self.snapshots.borrow().clone();
        let mut summary = json!(snapshot.state);
        summary["synced_at"] = json!(snapshot.synced_at);
        let matters = |service: &&Service| !service.routes.is_empty() || !service.tasks.is_empty();
        summary["services"] = json!(snapshot.services.iter().filter(matters).collect::<Vec<_>>());
        if let Some(error) = &snapshot.tasks_error {
            summary["tasks_error"] = json!(error);
        }
        summary["problems"] = json!(snapshot.problems);
        summary["conflicts"] = json!(*self.conflicts.borrow());
        let plain = self.containers.borrow().clone();
        summary["containers"] = json!(plain.services);
        let mut list = |name: &str, more: Value| {
            if let (Some(list), Value::Array(more)) = (summary[name].as_array_mut(), more) {
                list.extend(more);
            }
        };
        list("problems", json!(plain.problems));
        list("conflicts", json!(*self.plain_conflicts.borrow()));
        summary["writer"] = json!(self.locks.holder(writer::LOCK).await);
        summary
    }

    /// How many labels are not followed, or not as they stand.
    pub(crate) fn rejected(&self) -> usize {
        let of_services = self.snapshots.borrow().problems.len() + self.conflicts.borrow().len();
        of_services + self.containers.borrow().problems.len() + self.plain_conflicts.borrow().len()
    }

    /// Looks at the services now.
    ///
    /// # Errors
    /// A sentence when the engine is away or manages no Swarm.
    pub(crate) async fn rescan(&self) -> Result<(), String> {
        let snapshot = self.handle.rescan().await.map_err(|error| error.to_string())?;
        match &snapshot.state {
            State::Watching => Ok(()),
            State::NotManager { message } => Err(message.clone()),
            State::Unreachable { error } => Err(error.clone()),
            State::Connecting => Err("the engine was not heard yet".to_owned()),
        }
    }
}

/// Watches the engine and keeps the routes in the store as the labels say, until `shutdown`.
pub(super) fn publish(
    DockerAt { host, tls }: DockerAt,
    store: Store,
    routes: &RouteBook,
    shutdown: CancellationToken,
) -> SwarmBook {
    let config = roo_docker::Config { host, tls, ..roo_docker::Config::default() };
    let containers = roo_docker::follow_containers(config.clone(), shutdown.clone());
    tokio::spawn(notices::mark(containers.stopping, Registrar::new(store.clone()), shutdown.clone()));
    let (plain_sender, plain_conflicts) = watch::channel(Vec::new());
    tokio::spawn(Plain::new(store.clone(), containers.snapshots.clone(), plain_sender).run(shutdown.clone()));
    let watcher = roo_docker::watch(config, shutdown.clone());
    let (conflict_sender, conflicts) = watch::channel(Vec::new());
    let locks = Locks::new(store.clone());
    let book = SwarmBook {
        snapshots: watcher.snapshots.clone(),
        conflicts,
        handle: watcher.handle,
        locks,
        containers: containers.snapshots,
        plain_conflicts,
    };
    let writer = Writer::new(store, routes.follow(), watcher.snapshots, book.handle.clone(), conflict_sender);
    tokio::spawn(writer.run(shutdown));
    book
}
