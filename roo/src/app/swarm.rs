//! Routes from Swarm labels: what the watcher sees becomes routes in the store, written by one node at a time.
//!
//! A route written here says so in its `source` and is taken away again when its service goes. A route that
//! somebody else wrote is never touched; a label that wants its origin is reported instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roo_acme::{Claim, Vault as _};
use roo_docker::{Snapshot, State};
use roo_kv::{Compare, Expect, Key, Op, Revision, Store, Test, Txn};
use roo_proxy::{Origin, Route};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Vault;
use super::routes::{RouteBook, Routes};
use crate::keys;

/// Begins the `source` of routes that come from labels; the service's name follows.
pub(crate) const SOURCE_PREFIX: &str = "docker:";
/// Who holds this lock writes the routes of the Swarm.
const LOCK: &str = "swarm";
const LOCK_TTL: Duration = Duration::from_secs(6);
/// How often the lock is kept or asked for.
const TICK: Duration = Duration::from_secs(2);

/// What this node knows about the Swarm.
#[derive(Clone)]
pub(crate) struct SwarmBook {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    conflicts: watch::Receiver<Vec<Conflict>>,
    handle: roo_docker::Handle,
}

impl SwarmBook {
    /// State, services with routes and problems, for the API.
    pub(crate) fn summary(&self) -> Value {
        let snapshot = self.snapshots.borrow().clone();
        let mut summary = json!(snapshot.state);
        summary["synced_at"] = json!(snapshot.synced_at);
        summary["services"] = json!(snapshot.services.iter().filter(|s| !s.routes.is_empty()).collect::<Vec<_>>());
        summary["problems"] = json!(snapshot.problems);
        summary["conflicts"] = json!(*self.conflicts.borrow());
        summary
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
    host: Option<String>,
    store: Store,
    vault: Arc<Vault>,
    routes: &RouteBook,
    shutdown: CancellationToken,
) -> SwarmBook {
    let config = roo_docker::Config { host, ..roo_docker::Config::default() };
    let watcher = roo_docker::watch(config, shutdown.clone());
    let (conflict_sender, conflicts) = watch::channel(Vec::new());
    let book = SwarmBook { snapshots: watcher.snapshots.clone(), conflicts, handle: watcher.handle };
    let writer =
        Writer { store, vault, routes: routes.follow(), snapshots: watcher.snapshots, conflicts: conflict_sender };
    tokio::spawn(async move {
        if shutdown.run_until_cancelled(writer.run()).await.is_some() {
            tracing::error!("the watch of the swarm has ended; routes stay as they are until the node is started anew");
        }
    });
    book
}

/// Brings the store in line with the labels while it holds the lock.
struct Writer {
    store: Store,
    vault: Arc<Vault>,
    routes: watch::Receiver<Option<Arc<Routes>>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    conflicts: watch::Sender<Vec<Conflict>>,
}

impl Writer {
    /// Dropping it leaves the lock to run out.
    async fn run(mut self) {
        let mut claim = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut due = false;
            tokio::select! {
                _ = tick.tick() => due = true,
                changed = self.snapshots.changed() => if changed.is_err() { return },
                changed = self.routes.changed() => if changed.is_err() { return },
            }
            // Only a manager that sees the services may write: others would take down what they can't see.
            if self.snapshots.borrow().state != State::Watching {
                if let Some(held) = claim.take() {
                    let _ = self.vault.release(held).await;
                }
                continue;
            }
            if due || claim.is_none() {
                claim = self.hold(claim).await;
            }
            if let Some(held) = &claim
                && !self.settle(held).await
            {
                claim = None;
            }
        }
    }

    /// Keeps the lock, or asks for it.
    async fn hold(&self, claim: Option<Claim>) -> Option<Claim> {
        match claim {
            Some(held) => match self.vault.keep(&held).await {
                Ok(()) => Some(held),
                Err(roo_acme::VaultError::ClaimLost { .. }) => None,
                Err(_) => Some(held),
            },
            None => self.vault.claim(LOCK, LOCK_TTL).await.ok().flatten(),
        }
    }

    /// Writes what differs. `false`: the lock is gone.
    async fn settle(&mut self, claim: &Claim) -> bool {
        let Some(current) = self.routes.borrow_and_update().clone() else { return true };
        let snapshot = self.snapshots.borrow_and_update().clone();
        let plan = plan(&snapshot, &current);
        self.report(plan.conflicts);
        for change in plan.changes {
            match self.write(claim, change).await {
                Ok(()) => {}
                Err(Refused::LockLost) => return false,
                Err(Refused::Store(error)) => {
                    tracing::warn!(%error, "a route of the swarm could not be written; it is tried again");
                    return true;
                }
            }
        }
        true
    }

    fn report(&self, conflicts: Vec<Conflict>) {
        self.conflicts.send_if_modified(|known| {
            let changed = *known != conflicts;
            if changed {
                for Conflict { service, origin, message } in &conflicts {
                    tracing::warn!(service, origin, "{message}");
                }
                *known = conflicts;
            }
            changed
        });
    }

    async fn write(&self, claim: &Claim, change: Change) -> Result<(), Refused> {
        let held = Compare { key: keys::lock(&claim.what), test: Test::CreateRevision(Revision(claim.fence)) };
        let as_seen = |key: &Key, seen: Option<Revision>| Compare {
            key: key.clone(),
            test: Test::Expect(seen.map_or(Expect::Absent, Expect::Revision)),
        };
        let (compare, op) = match change {
            Change::Put { key, value, seen } => (as_seen(&key, seen), Op::Put { key, value, lease: None }),
            Change::Delete { key, seen } => (as_seen(&key, Some(seen)), Op::Delete { key }),
        };
        let lock = Op::Get { key: held.key.clone() };
        let txn = Txn { compare: vec![held, compare], success: vec![op], failure: vec![lock] };
        let outcome = self.store.txn(txn).await.map_err(Refused::Store)?;
        let still_ours = |entry: &roo_kv::Entry| entry.create_revision == Revision(claim.fence);
        match (outcome.succeeded, outcome.results.first()) {
            (true, _) => Ok(()),
            // The route was changed meanwhile: its change wakes us again.
            (false, Some(roo_kv::OpResult::Get(Some(entry)))) if still_ours(entry) => Ok(()),
            (false, _) => Err(Refused::LockLost),
        }
    }
}

enum Refused {
    LockLost,
    Store(roo_kv::Error),
}

/// A label that wants an origin which somebody else's route has, or that is no valid route.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Conflict {
    service: String,
    origin: String,
    message: String,
}

/// What to write so that the store says what the labels say.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    changes: Vec<Change>,
    conflicts: Vec<Conflict>,
}

#[derive(Debug, PartialEq)]
enum Change {
    Put { key: Key, value: Bytes, seen: Option<Revision> },
    Delete { key: Key, seen: Revision },
}

/// Compares labels and store. Pure.
fn plan(snapshot: &Snapshot, current: &Routes) -> Plan {
    let mut plan = Plan::default();
    let mut desired: BTreeMap<Key, (String, Bytes, Route)> = BTreeMap::new();
    for (service, label) in snapshot.routes() {
        let origin = match label.port {
            Some(port) => format!("{}:{port}:{}", label.host, label.scheme),
            None => format!("{}:{}", label.host, label.scheme),
        };
        let conflict = |message: String| Conflict { service: service.name.clone(), origin: origin.clone(), message };
        let document = json!({ "to": [label.destination], "source": format!("{SOURCE_PREFIX}{}", service.name) });
        let value = Bytes::from(document.to_string());
        match (origin.parse::<Origin>(), Route::parse(&value)) {
            (Err(error), _) => plan.conflicts.push(conflict(error.to_string())),
            (_, Err(error)) => plan.conflicts.push(conflict(error.to_string())),
            (Ok(parsed), Ok(route)) => {
                desired.insert(keys::route(&parsed), (service.name.clone(), value, route));
            }
        }
    }
    for (key, (service, value, route)) in &desired {
        let stored = current.get(key);
        match stored.map(|stored| &stored.parsed) {
            Some(Ok((_, present))) if !ours(present) => plan.conflicts.push(conflict(
                service,
                key,
                "a route that was written by hand has this origin and stays; remove it with `roo route rm` if the \
                 label shall decide",
            )),
            // Perhaps a newer node understands it.
            Some(Err(_)) => plan.conflicts.push(conflict(
                service,
                key,
                "there is a route with this origin that this node does not understand; it stays as it is",
            )),
            Some(Ok((_, present))) if present == route => {}
            _ => plan.changes.push(Change::Put {
                key: key.clone(),
                value: value.clone(),
                seen: stored.map(|stored| stored.revision),
            }),
        }
    }
    for (key, stored) in current {
        let gone = matches!(&stored.parsed, Ok((_, route)) if ours(route)) && !desired.contains_key(key);
        if gone {
            plan.changes.push(Change::Delete { key: key.clone(), seen: stored.revision });
        }
    }
    plan
}

fn conflict(service: &str, key: &Key, message: &str) -> Conflict {
    let origin = key.as_str().strip_prefix(keys::ROUTE_PREFIX).unwrap_or(key.as_str());
    Conflict { service: service.to_owned(), origin: origin.to_owned(), message: message.to_owned() }
}

fn ours(route: &Route) -> bool {
    route.source.as_deref().is_some_and(|source| source.starts_with(SOURCE_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::routes::Stored;
    use roo_docker::{LabelRoute, Service};

    fn snapshot(routes: &[(&str, &str)]) -> Snapshot {
        let label = |(host, destination): &(&str, &str)| LabelRoute {
            host: (*host).to_owned(),
            port: None,
            scheme: "https".to_owned(),
            destination: (*destination).to_owned(),
        };
        let service =
            Service { id: "1".to_owned(), name: "shop_web".to_owned(), routes: routes.iter().map(label).collect() };
        Snapshot { state: State::Watching, services: vec![service], problems: Vec::new(), synced_at: None }
    }

    fn stored(routes: &[(&str, &str)]) -> Routes {
        routes
            .iter()
            .map(|(origin, value)| {
                let origin: Origin = origin.parse().expect("an origin");
                let route = Route::parse(value.as_bytes()).expect("a route");
                (keys::route(&origin), Stored { revision: Revision(7), served: None, parsed: Ok((origin, route)) })
            })
            .collect()
    }

    const OURS: &str = r#"{"to":["http://shop_web:80"],"source":"docker:shop_web"}"#;

    #[test]
    fn a_new_label_is_written_and_a_lasting_one_is_left_alone() {
        let labels = snapshot(&[("a.example", "http://shop_web:80")]);
        let plan_new = plan(&labels, &Routes::new());
        assert!(matches!(plan_new.changes.as_slice(), [Change::Put { seen: None, .. }]), "{plan_new:?}");
        assert_eq!(plan(&labels, &stored(&[("a.example:https", OURS)])), Plan::default());
    }

    #[test]
    fn a_changed_label_replaces_and_a_gone_one_removes() {
        let current = stored(&[("a.example:https", OURS), ("b.example:https", OURS)]);
        let changes = plan(&snapshot(&[("a.example", "http://shop_web:81")]), &current).changes;
        assert!(
            matches!(
                changes.as_slice(),
                [Change::Put { seen: Some(Revision(7)), .. }, Change::Delete { seen: Revision(7), .. }]
            ),
            "{changes:?}"
        );
    }

    #[test]
    fn a_route_that_is_not_understood_stays_and_is_reported() {
        let mut current = stored(&[("a.example:https", OURS)]);
        for route in current.values_mut() {
            route.parsed = Err("unknown field".to_owned());
        }
        let plan = plan(&snapshot(&[("a.example", "http://shop_web:80")]), &current);
        assert_eq!((plan.changes.len(), plan.conflicts.len()), (0, 1));
    }

    #[test]
    fn a_route_by_hand_stays_and_is_reported() {
        let current = stored(&[("a.example:https", "http://10.0.0.1:1"), ("b.example:https", "http://10.0.0.1:1")]);
        let plan = plan(&snapshot(&[("a.example", "http://shop_web:80")]), &current);
        assert_eq!(plan.changes, Vec::new());
        assert_eq!(plan.conflicts.len(), 1);
    }
}
