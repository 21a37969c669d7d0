//! Cluster-wide locks: who holds one is written in the store, bound to a lease, so that a dead holder loses it.
//!
//! Being the Raft leader is no lock, because leadership can be lost half way. A lock can be lost too, unnoticed by a
//! holder that was stopped for a while; therefore every write under it is fenced: it happens only if the lock is still
//! the very one that was taken, told by the revision at which it came into being.

use std::time::Duration;

use bytes::Bytes;
use roo_kv::{Compare, Error, Expect, LeaseId, Op, OpResult, ReadLevel, Revision, Store, Test, Txn};

use crate::keys;

/// Takes and keeps locks in the name of this node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Locks {
    store: Store,
}

/// A lock that was ours when it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) what: String,
    pub(super) lease: LeaseId,
    pub(super) fence: Revision,
}

/// What became of a write under a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fenced {
    /// Written, at this revision.
    Written(Revision),
    /// The lock was ours, but the write's own condition did not hold.
    Otherwise,
    /// The lock is no longer ours; nothing was written.
    Lost,
}

impl Locks {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The node that holds `what`, as far as this node knows.
    pub(super) async fn holder(&self, what: &str) -> Option<String> {
        let entry = self.store.get(&keys::lock(what), ReadLevel::Stale).await.ok()??;
        String::from_utf8(entry.value.to_vec()).ok()
    }

    /// Takes the lock on `what`, which is lost `ttl` after it was kept last. `None`: somebody else has it.
    pub(super) async fn take(&self, what: &str, ttl: Duration) -> Result<Option<Lock>, Error> {
        let key = keys::lock(what);
        // Looking first keeps those who wait from writing to the log.
        if self.store.get(&key, ReadLevel::Stale).await?.is_some() {
            return Ok(None);
        }
        let lease = self.store.lease_grant(ttl).await?;
        let absent = Compare { key: key.clone(), test: Test::Expect(Expect::Absent) };
        let holder = Bytes::from(self.store.status().node_id.to_string());
        let put = Op::Put { key, value: holder, lease: Some(lease) };
        let txn = Txn { compare: vec![absent], success: vec![put], failure: Vec::new() };
        let outcome = self.store.txn(txn).await;
        if let Ok(outcome) = &outcome
            && outcome.succeeded
        {
            return Ok(Some(Lock { what: what.to_owned(), lease, fence: outcome.revision }));
        }
        // If this fails the lease ends by itself.
        let _ = self.store.lease_revoke(lease).await;
        outcome.map(|_| None)
    }

    /// Holds the lock for another whole ttl. `false`: it is no longer ours.
    pub(super) async fn keep(&self, lock: &Lock) -> Result<bool, Error> {
        match self.store.lease_keep_alive(lock.lease).await {
            Ok(_) => Ok(true),
            Err(Error::LeaseNotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the lock back, so that another node may take it at once.
    pub(super) async fn release(&self, lock: Lock) -> Result<(), Error> {
        match self.store.lease_revoke(lock.lease).await {
            Ok(_) | Err(Error::LeaseNotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Runs `ops` if `lock` is still ours and all `conditions` hold.
    pub(super) async fn write(
        &self,
        lock: &Lock,
        conditions: impl IntoIterator<Item = Compare>,
        ops: Vec<Op>,
    ) -> Result<Fenced, Error> {
        let key = keys::lock(&lock.what);
        let ours = Compare { key: key.clone(), test: Test::CreateRevision(lock.fence) };
        let compare = std::iter::once(ours).chain(conditions).collect();
        let txn = Txn { compare, success: ops, failure: vec![Op::Get { key }] };
        let outcome = self.store.txn(txn).await?;
        Ok(match (outcome.succeeded, outcome.results.first()) {
            (true, _) => Fenced::Written(outcome.revision),
            (false, Some(OpResult::Get(Some(entry)))) if entry.create_revision == lock.fence => Fenced::Otherwise,
            (false, _) => Fenced::Lost,
        })
    }
}
