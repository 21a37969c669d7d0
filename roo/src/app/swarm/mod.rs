//! Routes from Swarm labels, and the tasks that they lead to: what the watcher sees becomes routes and instances in the
//! store, written by one node at a time.
//!
//! A route written here says so in its `source` and is taken away again when its service goes. A route that
//! somebody else wrote is never touched; a label that wants its origin is reported instead.

mod document;
mod instances;
mod notices;
mod plan;
mod writer;

use std::sync::Arc;
use std::time::Duration;

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
pub(crate) use instances::SOURCE;
use plan::Conflict;
use writer::Writer;

/// Begins the `source` of routes that come from labels; the service's name follows.
pub(crate) const SOURCE_PREFIX: &str = "docker:";

/// The longest pause before an engine that is away is asked for its containers again.
const SIGNALS_RETRY_MAX: Duration = Duration::from_secs(10);

/// What this node knows about the Swarm.
#[derive(Clone)]
pub(crate) struct SwarmBook {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    conflicts: watch::Receiver<Vec<Conflict>>,
    handle: roo_docker::Handle,
    locks: Locks,
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
        summary["writer"] = json!(self.locks.holder(writer::LOCK).await);
        summary
    }

    /// How many labels are not followed, or not as they stand.
    pub(crate) fn rejected(&self) -> usize {
        self.snapshots.borrow().problems.len() + self.conflicts.borrow().len()
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
    let stopping = roo_docker::follow_signals(host.clone(), tls.clone(), SIGNALS_RETRY_MAX, shutdown.clone());
    tokio::spawn(notices::mark(stopping, Registrar::new(store.clone()), shutdown.clone()));
    let config = roo_docker::Config { host, tls, ..roo_docker::Config::default() };
    let watcher = roo_docker::watch(config, shutdown.clone());
    let (conflict_sender, conflicts) = watch::channel(Vec::new());
    let locks = Locks::new(store.clone());
    let book = SwarmBook { snapshots: watcher.snapshots.clone(), conflicts, handle: watcher.handle, locks };
    let writer = Writer::new(store, routes.follow(), watcher.snapshots, book.handle.clone(), conflict_sender);
    tokio::spawn(writer.run(shutdown));
    book
}
