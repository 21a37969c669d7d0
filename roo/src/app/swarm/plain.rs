//! Routes from the labels of containers that belong to no service of a swarm, and these containers as instances. Each node
//! writes for its own engine, on a lease of its own: when the node is gone, so are they.
//!
//! Several nodes may want the same route, since they run the same service. The first one writes it; another one takes its
//! place when it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roo_docker::{Snapshot, State};
use roo_kv::{Batch, Compare, Error, Event, Expect, Key, LeaseId, Op, Revision, Store, Test, Txn, Watch};
use roo_proxy::Route;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::document::{self, Drawn, Refused};
use super::instances::{self, PLAIN_SOURCE, Records};
use super::plan::Conflict;
use crate::keys;

/// Begins the `source` of routes that come from containers; the service's name follows.
pub(crate) const SOURCE_PREFIX: &str = "container:";
/// How often the lease is kept.
const TICK: Duration = Duration::from_secs(5);

/// The routes in the store, by key.
type Known = BTreeMap<Key, Stored>;

#[derive(Debug, Clone)]
struct Stored {
    revision: Revision,
    lease: Option<LeaseId>,
    value: Bytes,
}

/// Keeps the store as this node's containers say.
pub(super) struct Plain {
    store: Store,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    conflicts: watch::Sender<Vec<Conflict>>,
    instances: Watch,
    routes: Watch,
    records: Option<Records>,
    known: Option<Known>,
    lease: Option<LeaseId>,
}

impl Plain {
    pub(super) fn new(
        store: Store,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        conflicts: watch::Sender<Vec<Conflict>>,
    ) -> Self {
        Self {
            instances: store.watch(keys::INSTANCE_PREFIX),
            routes: store.watch(keys::ROUTE_PREFIX),
            store,
            snapshots,
            conflicts,
            records: None,
            known: None,
            lease: None,
        }
    }

    /// Ends at `shutdown`, or when the store does. What was written stays for the time of the lease, so that a node that
    /// is started anew finds it.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut due = false;
            tokio::select! {
                _ = tick.tick() => due = true,
                changed = self.snapshots.changed() => if changed.is_err() { return },
                batch = self.instances.next() => match batch {
                    Ok(batch) => instances::apply(self.records.get_or_insert_default(), batch, PLAIN_SOURCE),
                    Err(_) => return,
                },
                batch = self.routes.next() => match batch {
                    Ok(batch) => apply(self.known.get_or_insert_default(), batch),
                    Err(_) => return,
                },
            }
            if let Err(error) = self.settle(due).await {
                tracing::debug!(%error, "what containers say could not be written; it is tried again");
            }
        }
    }

    async fn settle(&mut self, due: bool) -> Result<(), Error> {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let (Some(records), Some(known)) = (&self.records, &self.known) else { return Ok(()) };
        if snapshot.state == State::Connecting || snapshot.synced_at.is_none() {
            return Ok(());
        }
        let is_own = |id: &str| snapshot.services.iter().any(|s| s.tasks.iter().any(|task| task.id == id));
        let former = || records.values().find(|record| is_own(record.instance.id.as_str()))?.lease;
        let Some(lease) = self.lease.or_else(former) else {
            if !snapshot.services.is_empty() {
                self.lease = Some(self.store.lease_grant(instances::TTL).await?);
                return Box::pin(self.settle(false)).await;
            }
            return Ok(());
        };
        if due || self.lease.is_none() {
            match self.store.lease_keep_alive(lease).await {
                Ok(_) => self.lease = Some(lease),
                Err(Error::LeaseNotFound { .. }) => {
                    self.lease = None;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let own: Records = records
            .iter()
            .filter(|(_, record)| record.lease == Some(lease) || is_own(record.instance.id.as_str()))
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect();
        let changes = instances::plan(&snapshot, &own, lease, PLAIN_SOURCE);
        let is_elsewhere = |service: &str| {
            let others = records.values().filter(|record| record.lease != Some(lease));
            others.into_iter().any(|record| record.instance.service.as_str().eq_ignore_ascii_case(service))
        };
        let (routes, conflicts) = plan(&snapshot, known, lease, is_elsewhere);
        self.conflicts.send_if_modified(|told| {
            let changed = *told != conflicts;
            if changed {
                for Conflict { service, label, origin, message } in &conflicts {
                    tracing::warn!(service, label, origin, "{message}");
                }
                *told = conflicts;
            }
            changed
        });
        // Each for itself: another node may have been first with one of them.
        let changes = changes.iter().map(|change| change.parts(lease)).chain(routes);
        for (condition, op) in changes {
            let txn = Txn { compare: vec![condition], success: vec![op], failure: Vec::new() };
            match self.store.txn(txn).await {
                Ok(_) => {}
                Err(Error::LeaseNotFound { .. }) => {
                    self.lease = None;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn apply(known: &mut Known, batch: Batch) {
    if batch.reset {
        known.clear();
    }
    for event in batch.events {
        match event {
            Event::Put { key, entry, .. } => {
                let stored = Stored { revision: entry.mod_revision, lease: entry.lease, value: entry.value };
                known.insert(key, stored);
            }
            Event::Delete { key, .. } => drop(known.remove(&key)),
        }
    }
}

/// What to write so that the routes of this node's containers are there, and no others on its lease.
fn plan(
    snapshot: &Snapshot,
    known: &Known,
    lease: LeaseId,
    is_elsewhere: impl Fn(&str) -> bool,
) -> (Vec<(Compare, Op)>, Vec<Conflict>) {
    let (mut changes, mut conflicts) = (Vec::new(), Vec::new());
    let mut wanted = BTreeMap::new();
    for (service, asked) in snapshot.routes() {
        let conflict = |label: &str, message: String| Conflict {
            service: service.name.clone(),
            label: label.to_owned(),
            origin: document::origin(asked),
            message,
        };
        match document::draw_for(SOURCE_PREFIX, &service.name, asked) {
            Err(faults) => conflicts.extend(
                faults.into_iter().map(|Refused { label, message }| conflict(&label, format!("{label}: {message}"))),
            ),
            Ok(Drawn { origin, value, .. }) => {
                let key = keys::route(&origin);
                match known.get(&key) {
                    None => changes.push(put(&key, value, None, lease)),
                    Some(stored) if stored.value == value => {}
                    Some(stored) if stored.lease == Some(lease) => {
                        changes.push(put(&key, value, Some(stored.revision), lease));
                    }
                    Some(_) => {
                        conflicts.push(conflict(&asked.label, "another route has this origin and stays".to_owned()));
                    }
                }
                wanted.insert(key, ());
            }
        }
    }
    for (key, stored) in known.iter().filter(|(key, stored)| stored.lease == Some(lease) && !wanted.contains_key(*key))
    {
        let source = Route::parse(&stored.value).ok().and_then(|route| route.source);
        let service = source.as_deref().and_then(|source| source.strip_prefix(SOURCE_PREFIX));
        // Another node leads requests there, which will say so itself once this one is gone.
        if !service.is_some_and(&is_elsewhere) {
            changes.push((as_seen(key, Some(stored.revision)), Op::Delete { key: key.clone() }));
        }
    }
    (changes, conflicts)
}

fn put(key: &Key, value: Bytes, seen: Option<Revision>, lease: LeaseId) -> (Compare, Op) {
    (as_seen(key, seen), Op::Put { key: key.clone(), value, lease: Some(lease) })
}

fn as_seen(key: &Key, seen: Option<Revision>) -> Compare {
    Compare { key: key.clone(), test: Test::Expect(seen.map_or(Expect::Absent, Expect::Revision)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roo_docker::{Description, settle};

    const MINE: LeaseId = LeaseId(7);

    fn snapshot(hosts: &str) -> Snapshot {
        let labels =
            [("roo.host", hosts), ("roo.port", "80")].map(|(label, value)| (label.to_owned(), value.to_owned()));
        let described =
            Description { name: "shop_web".to_owned(), container_labels: labels.into(), ..Description::default() };
        let (services, problems) = settle(if hosts.is_empty() { Vec::new() } else { vec![described] });
        Snapshot {
            state: State::Watching,
            services,
            problems,
            synced_at: Some(1),
            tasks_of: std::collections::BTreeSet::new(),
            tasks_error: None,
        }
    }

    fn written(changes: &[(Compare, Op)], lease: LeaseId) -> Known {
        let put = |(_, op): &(Compare, Op)| match op {
            Op::Put { key, value, .. } => {
                Some((key.clone(), Stored { revision: Revision(3), lease: Some(lease), value: value.clone() }))
            }
            _ => None,
        };
        changes.iter().filter_map(put).collect()
    }

    fn deleted(changes: &[(Compare, Op)]) -> Vec<String> {
        let key = |(_, op): &(Compare, Op)| if let Op::Delete { key } = op { Some(key.to_string()) } else { None };
        changes.iter().filter_map(key).collect()
    }

    #[test]
    fn one_node_writes_and_the_others_leave_it_alone() {
        let nobody = |_: &str| false;
        let (changes, conflicts) = plan(&snapshot("a.example"), &Known::new(), MINE, nobody);
        let known = written(&changes, MINE);
        assert_eq!((known.len(), conflicts.len()), (1, 0));
        for lease in [MINE, LeaseId(8)] {
            let (changes, conflicts) = plan(&snapshot("a.example"), &known, lease, nobody);
            assert_eq!((changes.len(), conflicts.len()), (0, 0));
        }
        // Somebody else's route for the same origin.
        let other: Known = known
            .iter()
            .map(|(key, stored)| {
                (key.clone(), Stored { value: Bytes::from_static(b"http://a"), lease: None, ..stored.clone() })
            })
            .collect();
        let (changes, conflicts) = plan(&snapshot("a.example"), &other, MINE, nobody);
        assert_eq!((changes.len(), conflicts.len()), (0, 1));
    }

    #[test]
    fn a_route_goes_with_the_last_container_that_wants_it() {
        let (changes, _) = plan(&snapshot("a.example,b.example"), &Known::new(), MINE, |_| false);
        let known = written(&changes, MINE);
        assert_eq!(deleted(&plan(&snapshot("b.example"), &known, MINE, |_| false).0), ["com.roo.host:a.example:https"]);
        assert_eq!(deleted(&plan(&snapshot(""), &known, MINE, |_| false).0).len(), 2);
        assert!(deleted(&plan(&snapshot(""), &known, MINE, |service| service == "shop_web").0).is_empty());
        assert!(deleted(&plan(&snapshot(""), &known, LeaseId(8), |_| false).0).is_empty(), "another node's");
    }
}
