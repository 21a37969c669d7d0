//! Writes what the labels say into the store, while this node holds the lock.

use std::sync::Arc;
use std::time::Duration;

use roo_docker::{Snapshot, State};
use roo_kv::{Compare, Error, Expect, Key, Op, Revision, Test};
use tokio::sync::watch;

use super::plan::{Change, Conflict, plan};
use crate::app::lock::{Fenced, Lock, Locks};
use crate::app::routes::Routes;

/// Who holds this lock writes the routes of the Swarm.
const LOCK: &str = "swarm";
const LOCK_TTL: Duration = Duration::from_secs(6);
/// How often the lock is kept or asked for.
const TICK: Duration = Duration::from_secs(2);

/// Brings the store in line with the labels while it holds the lock.
pub(super) struct Writer {
    pub(super) locks: Locks,
    pub(super) routes: watch::Receiver<Option<Routes>>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) conflicts: watch::Sender<Vec<Conflict>>,
}

impl Writer {
    /// Ends when the store or the watch of the engine does. Dropping it leaves the lock to run out.
    pub(super) async fn run(mut self) {
        let mut lock = None;
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
                if let Some(held) = lock.take() {
                    // If this fails the lock runs out by itself.
                    let _ = self.locks.release(held).await;
                }
                continue;
            }
            if due || lock.is_none() {
                lock = self.hold(lock).await;
            }
            if let Some(held) = &lock
                && !self.settle(held).await
            {
                lock = None;
            }
        }
    }

    /// Keeps the lock, or asks for it.
    async fn hold(&self, lock: Option<Lock>) -> Option<Lock> {
        match lock {
            // Not to be able to ask does not mean that it is lost; writes are fenced anyway.
            Some(held) => self.locks.keep(&held).await.unwrap_or(true).then_some(held),
            None => self.locks.take(LOCK, LOCK_TTL).await.ok().flatten(),
        }
    }

    /// Writes what differs. `false`: the lock is gone.
    async fn settle(&mut self, lock: &Lock) -> bool {
        let Some(current) = self.routes.borrow_and_update().clone() else { return true };
        let snapshot = self.snapshots.borrow_and_update().clone();
        let plan = plan(&snapshot, &current);
        self.report(plan.conflicts);
        for change in plan.changes {
            match self.write(lock, change).await {
                // If the route was changed meanwhile, that change wakes us again.
                Ok(Fenced::Written(_) | Fenced::Otherwise) => {}
                Ok(Fenced::Lost) => return false,
                Err(error) => {
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
                for Conflict { service, label, origin, message } in &conflicts {
                    tracing::warn!(service, label, origin, "{message}");
                }
                *known = conflicts;
            }
            changed
        });
    }

    async fn write(&self, lock: &Lock, change: Change) -> Result<Fenced, Error> {
        let as_seen = |key: &Key, seen: Option<Revision>| Compare {
            key: key.clone(),
            test: Test::Expect(seen.map_or(Expect::Absent, Expect::Revision)),
        };
        let (condition, op) = match change {
            Change::Put { key, value, seen } => (as_seen(&key, seen), Op::Put { key, value, lease: None }),
            Change::Delete { key, seen } => (as_seen(&key, Some(seen)), Op::Delete { key }),
        };
        self.locks.write(lock, Some(condition), op).await
    }
}
