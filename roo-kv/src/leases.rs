//! Leases as callers of the store see them. When they end is decided by [`LeaseClock`](crate::lease::LeaseClock).

use std::time::Duration;

use tokio::time::Instant;

use crate::command::{Command, Reply};
use crate::error::Error;
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::node::{ATTEMPT_PATIENCE, CALL_PATIENCE, RETRY_PAUSE};
use crate::peer::{Answer, Ask, LeaseAnswer};
use crate::store::Store;
use crate::txn::{PAGE_ENTRIES_MAX, ReadLevel};

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A lease and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long it lives after each keep-alive.
    pub ttl: Duration,
    /// How long it lives if it is not kept alive, by the leader's clock. May be zero just before it ends.
    pub left: Duration,
    /// The keys that are deleted when it ends, ascending.
    pub keys: Vec<Key>,
    /// The store's revision at which it was looked up.
    pub revision: Revision,
}

/// Some leases, in order of their identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeasePage {
    /// Each with its TTL.
    pub leases: Vec<(LeaseId, Duration)>,
    /// There are more; ask again with `after` = the last one.
    pub more: bool,
    /// The store's revision that the page shows.
    pub revision: Revision,
}

impl Store {
    /// Makes a lease that ends `ttl` after its last keep-alive.
    ///
    /// # Errors
    /// [`Error::BadTtl`]; otherwise as [`put`](Self::put).
    pub async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        if ttl < TTL_MIN || ttl > TTL_MAX {
            return Err(Error::BadTtl { ttl });
        }
        let ttl_ms = u64::try_from(ttl.as_millis()).map_err(|_| Error::BadTtl { ttl })?;
        match self.node.write(Command::LeaseGrant { ttl_ms }).await? {
            Reply::LeaseGranted { id, .. } => Ok(id),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Lets the lease live for another whole TTL from now, and returns that TTL. Not written to the log.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        Ok(self.ask_for_lease(id, true).await?.0)
    }

    /// A lease, how long it lives yet, and its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended; otherwise as [`get`](Self::get).
    pub async fn lease(&self, id: LeaseId) -> Result<Lease, Error> {
        let (ttl, left) = self.ask_for_lease(id, false).await?;
        self.node.catch_up(ReadLevel::Linearizable).await?;
        let (keys, revision) = self.node.look(|view| view.keys_of_lease(id))?;
        Ok(Lease { ttl, left, keys, revision })
    }

    /// The keys of a lease as this node knows them; none if it does not know the lease. Never waits.
    ///
    /// # Errors
    /// Only if the node has failed.
    pub async fn lease_keys(&self, id: LeaseId) -> Result<Vec<Key>, Error> {
        Ok(self.node.look(|view| view.keys_of_lease(id))?.0)
    }

    /// The leases after one (`None`: from the first), at most `limit`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn leases(&self, after: Option<LeaseId>, limit: usize, level: ReadLevel) -> Result<LeasePage, Error> {
        self.node.catch_up(level).await?;
        let limit = limit.min(PAGE_ENTRIES_MAX);
        self.node.look(|view| view.leases(after, limit))
    }

    /// Ends the lease, deletes its keys, and returns the store's revision after that.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended already; otherwise as [`put`](Self::put).
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        match self.node.write(Command::LeaseRevoke { id }).await? {
            Reply::LeaseEndedAt { revision } => Ok(revision),
            Reply::LeaseNotFound { id } => Err(Error::LeaseNotFound { id }),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// The TTL of a lease and what is left of it, from the leader, who may renew it first.
    async fn ask_for_lease(&self, id: LeaseId, renew: bool) -> Result<(Duration, Duration), Error> {
        let node = &self.node;
        let started = Instant::now();
        loop {
            node.check_running()?;
            let answer = match node.leader() {
                Some((leader, _)) if leader == node.id() => node.lease_here(id, renew),
                Some((leader, address)) => {
                    let ask = if renew { Ask::KeepAlive { lease: id } } else { Ask::LeaseLeft { lease: id } };
                    match node.links.ask(leader, address.as_deref(), ask, ATTEMPT_PATIENCE).await {
                        Ok(Answer::Lease(answer)) => answer,
                        _ => LeaseAnswer::NotLeader,
                    }
                }
                None => LeaseAnswer::NotLeader,
            };
            match answer {
                LeaseAnswer::Lives { ttl_ms, left_ms } => {
                    return Ok((Duration::from_millis(ttl_ms), Duration::from_millis(left_ms)));
                }
                LeaseAnswer::Ended => return Err(Error::LeaseNotFound { id }),
                LeaseAnswer::NotLeader if started.elapsed() >= CALL_PATIENCE => return Err(node.no_leader(started)),
                LeaseAnswer::NotLeader => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }
}
