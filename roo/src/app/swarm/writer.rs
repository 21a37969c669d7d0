//! Writes what labels and tasks say into the store, while this node holds the lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roo_docker::{Handle, Snapshot, State};
use roo_kv::{Compare, Error, Expect, Key, LeaseId, Op, Revision, Store, Test, Watch};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::instances::{self, Records};
use super::plan::{Change, Conflict, plan};
use crate::app::lock::{Fenced, Lock, Locks};
use crate::app::routes::Routes;
use crate::keys;

/// Who holds this lock writes the routes and tasks of the Swarm.
pub(super) const LOCK: &str = "swarm";
const LOCK_TTL: Duration = Duration::from_secs(3);
/// How often the lock is kept or asked for.
const TICK: Duration = Duration::from_secs(1);
/// How long a node that ends tries to give the lock back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// Changes in one transaction.
const CHANGES_MAX: usize = 128;

/// Brings the store in line with labels and tasks while it holds the lock.
pub(super) struct Writer {
    store: Store,
    locks: Locks,
    routes: watch::Receiver<Option<Routes>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    handle: Handle,
    conflicts: watch::Sender<Vec<Conflict>>,
    instances: Watch,
    records: Records,
    /// Instances under keys of tasks that are none.
    foreign: BTreeSet<Key>,
    /// Of these, the ones that were complained of.
    told: BTreeSet<Key>,
    /// Whether the store's tasks were read at least once.
    has_records: bool,
    /// What the tasks hang on.
    lease: Option<LeaseId>,
    lock: Option<Lock>,
}

/// The lock is no longer ours, and nothing more may be written.
struct Lost;

impl Writer {
    pub(super) fn new(
        store: Store,
        routes: watch::Receiver<Option<Routes>>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        handle: Handle,
        conflicts: watch::Sender<Vec<Conflict>>,
    ) -> Self {
        Self {
            locks: Locks::new(store.clone()),
            instances: store.watch(keys::INSTANCE_PREFIX),
            store,
            routes,
            snapshots,
            handle,
            conflicts,
            records: Records::new(),
            foreign: BTreeSet::new(),
            told: BTreeSet::new(),
            has_records: false,
            lease: None,
            lock: None,
        }
    }

    /// Ends at `shutdown`, or when the store or the watch of the engine does. Gives the lock back.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let ended = shutdown.run_until_cancelled(self.follow()).await.is_some();
        if ended && !shutdown.is_cancelled() {
            tracing::error!("the watch of the swarm has ended; routes stay as they are until the node is started anew");
        }
        if let Some(held) = self.lock.take() {
            // If this fails the lock runs out by itself.
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, self.locks.release(held)).await;
        }
    }

    async fn follow(&mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut due = false;
            tokio::select! {
                _ = tick.tick() => due = true,
                changed = self.snapshots.changed() => if changed.is_err() { return },
                changed = self.routes.changed() => if changed.is_err() { return },
                batch = self.instances.next() => match batch {
                    Ok(batch) => {
                        instances::apply_foreign(&mut self.foreign, &batch, instances::SOURCE);
                        instances::apply(&mut self.records, batch, instances::SOURCE);
                        self.has_records = true;
                    }
                    Err(_) => return,
                },
            }
            // Whoever may come to write has to know the tasks of what routes lead to.
            if let Some(routes) = &*self.routes.borrow() {
                self.handle.follow(instances::led_to(routes));
            }
            // Only a manager that sees the services may write: others would take down what they can't see.
            if self.snapshots.borrow().state != State::Watching {
                if let Some(held) = self.lock.take() {
                    // If this fails the lock runs out by itself.
                    let _ = self.locks.release(held).await;
                }
                continue;
            }
            if due || self.lock.is_none() {
                self.lock = self.hold().await;
            }
            if let Some(held) = self.lock.clone()
                && self.settle(&held, due).await.is_err()
            {
                self.lock = None;
            }
        }
    }

    /// Keeps the lock, or asks for it.
    async fn hold(&mut self) -> Option<Lock> {
        match self.lock.take() {
            // Not to be able to ask does not mean that it is lost; writes are fenced anyway.
            Some(held) => self.locks.keep(&held).await.unwrap_or(true).then_some(held),
            None => {
                // Whoever had it meanwhile may have begun another one.
                self.lease = None;
                self.locks.take(LOCK, LOCK_TTL).await.ok().flatten()
            }
        }
    }

    /// Writes what differs.
    async fn settle(&mut self, lock: &Lock, due: bool) -> Result<(), Lost> {
        let Some(current) = self.routes.borrow_and_update().clone() else { return Ok(()) };
        let snapshot = self.snapshots.borrow_and_update().clone();
        let led = instances::led_to(&current);
        // Tasks first: those of a new route are there when it comes, and one that stops can't wait.
        if self.has_records && snapshot.tasks_error.is_none() {
            self.settle_tasks(lock, &snapshot, &led, due).await?;
        }
        let plan = plan(&snapshot, &current);
        self.report(plan.conflicts);
        for change in plan.changes {
            let (condition, op) = change.into_parts();
            if !self.write(lock, vec![condition], vec![op]).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn settle_tasks(
        &mut self,
        lock: &Lock,
        snapshot: &Snapshot,
        led: &BTreeSet<String>,
        due: bool,
    ) -> Result<(), Lost> {
        if self.records.is_empty() && snapshot.services.iter().all(|service| service.tasks.is_empty()) {
            // Nobody keeps it alive from now on.
            self.lease = None;
            return Ok(());
        }
        let lease = match self.lease(due).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::debug!(%error, "the lease of tasks could not be kept; it is tried again");
                return Ok(());
            }
        };
        let mut changes = instances::plan(snapshot, &self.records, lease, instances::SOURCE);
        changes.retain(|change| !change.is_early(snapshot, &self.records, led));
        changes.retain(|change| !self.is_foreign(change.key()));
        if changes.is_empty() {
            return Ok(());
        }
        for changes in changes.chunks(CHANGES_MAX) {
            let (conditions, ops) = changes.iter().map(|change| change.parts(lease)).unzip();
            if !self.write(lock, conditions, ops).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether something else than a task is where this one should be, which is left alone.
    fn is_foreign(&mut self, key: &Key) -> bool {
        let foreign = self.foreign.contains(key);
        if foreign && self.told.insert(key.clone()) {
            tracing::warn!(%key, "there is an instance at this key that is no task of the Swarm, so the task is not written; remove it");
        }
        foreign
    }

    /// What the tasks hang on: the lease that they have already, or a new one.
    async fn lease(&mut self, due: bool) -> Result<LeaseId, Error> {
        let known = self.lease.or_else(|| self.records.values().find_map(|record| record.lease));
        if let Some(lease) = known {
            if self.lease.is_some() && !due {
                return Ok(lease);
            }
            match self.store.lease_keep_alive(lease).await {
                Ok(_) => {
                    self.lease = Some(lease);
                    return Ok(lease);
                }
                Err(Error::LeaseNotFound { .. }) => self.lease = None,
                Err(error) => return Err(error),
            }
        }
        let lease = self.store.lease_grant(instances::TTL).await?;
        self.lease = Some(lease);
        Ok(lease)
    }

    fn report(&self, conflicts: Vec<Conflict>) {
        self.conflicts.send_if_modified(|known| {
            let changed = *known != conflicts;
            if changed {
                for Conflict { service, label, origin, message } in &conflicts {
                    tracing::warn!(service, label, origin, "{message}");
                }
                *known = conflicts;
            }
            changed
        });
    }

    /// Writes all of it if nobody has changed any of it meanwhile: whatever changes wakes us again. `false`: the store
    /// did not take it, which the next look tries again.
    async fn write(&mut self, lock: &Lock, conditions: Vec<Compare>, ops: Vec<Op>) -> Result<bool, Lost> {
        match self.locks.write(lock, conditions, ops).await {
            Ok(Fenced::Written(_) | Fenced::Otherwise) => Ok(true),
            Ok(Fenced::Lost) => Err(Lost),
            Err(Error::LeaseNotFound { .. }) => {
                self.lease = None;
                Ok(false)
            }
            Err(error) => {
                tracing::warn!(%error, "what the swarm says could not be written; it is tried again");
                Ok(false)
            }
        }
    }
}

impl Change {
    fn into_parts(self) -> (Compare, Op) {
        match self {
            Change::Put { key, value, seen } => (as_seen(&key, seen), Op::Put { key, value, lease: None }),
            Change::Delete { key, seen } => (as_seen(&key, Some(seen)), Op::Delete { key }),
        }
    }
}

impl instances::Change {
    pub(super) fn parts(&self, lease: LeaseId) -> (Compare, Op) {
        match self {
            Self::Put { key, instance, seen } => {
                let value = Bytes::from(instance.to_json());
                (as_seen(key, *seen), Op::Put { key: key.clone(), value, lease: Some(lease) })
            }
            Self::Delete { key, seen } => (as_seen(key, Some(*seen)), Op::Delete { key: key.clone() }),
        }
    }
}

fn as_seen(key: &Key, seen: Option<Revision>) -> Compare {
    Compare { key: key.clone(), test: Test::Expect(seen.map_or(Expect::Absent, Expect::Revision)) }
}
