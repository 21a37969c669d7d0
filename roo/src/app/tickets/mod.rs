//! The keys of session tickets: the same on every node, so that a client resumes wherever it comes back to.
//!
//! They are random and changed every six hours by whichever node comes first: what was recorded can't be opened with keys that
//! are no more. Until a node has read them from the store its proxy has a key of its own.

mod ring;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use roo_kv::{Batch, Entry, Event, Expect, PutOptions, Revision, Status, Store};
use roo_proxy::Control;

use self::ring::Ring;
use super::Vault;
use crate::keys;

/// How long to wait before trying again what has failed, and how far apart nodes that find the same thing due may be.
const PAUSE: Duration = Duration::from_secs(10);

/// One node makes no more keys than one in this time.
const TURN_EVERY: Duration = Duration::from_secs(30 * 60);

/// The longest sleep: clocks may be set, and machines suspended.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Keeps the proxy's keys as the store has them, and has new ones made in time. Ends when the store does.
pub(super) fn publish(store: &Store, vault: Arc<Vault>, control: Control) {
    let store = store.clone();
    tokio::spawn(async move {
        // Until it is in a cluster a node may go by a secret that nobody else will have.
        if store.status_changes().wait_for(Status::is_ready).await.is_err() {
            return;
        }
        let mut changes = store.watch(keys::TICKETS);
        let Ok(first) = changes.next_all().await else { return };
        let mut stored = latest(first, None);
        let mut turner = Turner { store, vault, turned: None };
        loop {
            let pause = match &stored {
                None => turner.turn(None, Expect::Absent).await,
                Some(entry) => turner.follow(&control, entry).await,
            };
            match tokio::time::timeout(pause, changes.next_all()).await {
                Err(_) => {}
                Ok(Ok(batch)) => stored = latest(batch, stored),
                Ok(Err(_)) => return,
            }
        }
    });
}

/// What is stored after a batch.
fn latest(batch: Batch, mut stored: Option<Entry>) -> Option<Entry> {
    if batch.reset {
        stored = None;
    }
    for event in batch.events.into_iter().filter(|event| event.key().as_str() == keys::TICKETS) {
        stored = match event {
            Event::Put { entry, .. } => Some(entry),
            Event::Delete { .. } => None,
        };
    }
    stored
}

/// Makes new keys.
struct Turner {
    store: Store,
    vault: Arc<Vault>,
    /// When this node has made one last.
    turned: Option<Instant>,
}

impl Turner {
    /// Hands the keys to the proxy and changes them if that is due. How long that holds.
    async fn follow(&mut self, control: &Control, entry: &Entry) -> Duration {
        let opened = self.vault.open(&keys::tickets(), &entry.value).map_err(|error| error.to_string());
        let ring = match opened.and_then(|plain| Ring::decode(&plain)) {
            Ok(ring) => ring,
            Err(error) => {
                tracing::error!(
                    error,
                    "the stored keys of session tickets can't be used; this node goes on with those it has"
                );
                return LOOK_AGAIN;
            }
        };
        let now = Timestamp::now().as_second();
        control.set_ticket_keys(ring.keys(now));
        let due = ring.due_at(now);
        if due <= now {
            if ring.is_from_later(now) {
                tracing::warn!(
                    "a key of session tickets was made by a clock hours ahead of this one; set the clocks of all nodes"
                );
            }
            return self.turn(Some(ring), Expect::Revision(entry.mod_revision)).await;
        }
        let left = |at: i64| Duration::from_secs(at.saturating_sub(now).unsigned_abs());
        // Whoever wakes first does it for all.
        let due = left(due) + PAUSE.mul_f64(fastrand::f64());
        ring.changes_at(now).map_or(due, left).min(due).min(LOOK_AGAIN)
    }

    /// Stores the ring with another key in it, unless another node was first. How long to wait for word of that.
    async fn turn(&mut self, former: Option<Ring>, expect: Expect) -> Duration {
        // Nodes whose clocks contradict each other must not turn it by turns.
        let wait = self.turned.map(|turned| TURN_EVERY.saturating_sub(turned.elapsed()));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return wait;
        }
        let pause = PAUSE.mul_f64(1.0 + fastrand::f64());
        let mut secret = [0; 32];
        if aws_lc_rs::rand::fill(&mut secret).is_err() {
            return LOOK_AGAIN;
        }
        let ring = Ring::turned(former, &secret, Timestamp::now().as_second());
        let key = keys::tickets();
        let sealed = match self.vault.seal(&key, &ring.encode()) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!(%error, "the keys of session tickets can't be sealed");
                return LOOK_AGAIN;
            }
        };
        match self.store.put(key, sealed, PutOptions { expect: Some(expect), lease: None }).await {
            Ok(Revision(revision)) => {
                self.turned = Some(Instant::now());
                tracing::debug!(revision, "session tickets have a new key");
            }
            // Somebody was first, or the store is not up yet.
            Err(error) => tracing::debug!(%error, "session tickets wait for a new key"),
        }
        pause
    }
}
