//! The handle that the rest of Roo holds.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use crate::command::{Command, Reply};
use crate::config::Config;
use crate::error::{Error, StartError};
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::node::{ATTEMPT_PATIENCE, CALL_PATIENCE, RETRY_PAUSE};
use crate::peer::{Answer, Ask};
use crate::start::{self, Running};
use crate::status::{Phase, Status};
use crate::txn::{
    Compare, Entry, Expect, Op, OpResult, Page, PutOptions, ReadLevel, Scan, TXN_BYTES_MAX, TXN_OPS_MAX, Test, Txn,
    TxnOutcome, VALUE_BYTES_MAX,
};
use crate::watch::Watch;

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Members asked at once whether they have applied something.
const CONFIRMATIONS_AT_ONCE: usize = 64;

/// How long a leader that stops waits for its heir.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(1500);

/// How long an orderly stop waits for tasks to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A node of the replicated store. Cheap to clone; all clones are the same node.
///
/// Every call is tried for up to five seconds across elections and lost links before it fails, and may be made
/// on any node: what only the leader can do is forwarded to it.
#[derive(Clone)]
pub struct Store {
    running: Arc<Running>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("node", &self.running.node.id()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the data directory, starts the peer port and looks for others in the background.
    ///
    /// Returns as soon as the node runs, not only when a cluster is formed: see [`status`](Self::status).
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Ok(Self { running: Arc::new(start::start(config).await?) })
    }

    /// The entry under a key.
    ///
    /// # Errors
    /// [`Error`]; a stale read fails only if the node has failed.
    pub async fn get(&self, key: &Key, level: ReadLevel) -> Result<Option<Entry>, Error> {
        let node = &self.running.node;
        node.catch_up(level).await?;
        let key = key.clone();
        node.look(move |view| view.entry(key.as_str())).await
    }

    /// A page of entries, as they were at one revision.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan(&self, range: Scan, level: ReadLevel) -> Result<Page, Error> {
        let node = &self.running.node;
        node.catch_up(level).await?;
        node.look(move |view| view.page(&range)).await
    }

    /// Writes a key and returns the revision of the write. Once it returns, the write survives the loss of any
    /// minority of the nodes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the expectation does not hold, [`Error::LeaseNotFound`], [`Error::TooLarge`].
    /// If the future is dropped the write may or may not happen.
    pub async fn put(&self, key: Key, value: Bytes, options: PutOptions) -> Result<Revision, Error> {
        let txn = Txn {
            compare: expectation(&key, options.expect),
            failure: vec![Op::Get { key: key.clone() }],
            success: vec![Op::Put { key, value, lease: options.lease }],
        };
        let outcome = self.txn(txn).await?;
        if outcome.succeeded { Ok(outcome.revision) } else { Err(conflict(&outcome)) }
    }

    /// Removes a key; `None` if it was not there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: &Key, expect: Option<Expect>) -> Result<Option<Revision>, Error> {
        let txn = Txn {
            compare: expectation(key, expect),
            success: vec![Op::Delete { key: key.clone() }],
            failure: vec![Op::Get { key: key.clone() }],
        };
        let outcome = self.txn(txn).await?;
        if !outcome.succeeded {
            return Err(conflict(&outcome));
        }
        let existed = outcome.results.first() == Some(&OpResult::Delete { existed: true });
        Ok(existed.then_some(outcome.revision))
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// As [`put`](Self::put), except that conditions that do not hold are an outcome, not an error.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        check_size(&txn)?;
        match self.running.node.write(Command::Txn(txn)).await? {
            Reply::Txn(outcome) => Ok(outcome),
            Reply::LeaseNotFound { id } => Err(Error::LeaseNotFound { id }),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Makes a lease that ends `ttl` after its last keep-alive.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        if ttl < TTL_MIN || ttl > TTL_MAX {
            return Err(Error::BadTtl { ttl });
        }
        let ttl_ms = u64::try_from(ttl.as_millis()).map_err(|_| Error::BadTtl { ttl })?;
        match self.running.node.write(Command::LeaseGrant { ttl_ms }).await? {
            Reply::LeaseGranted { id, .. } => Ok(id),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Lets the lease live for another whole TTL from now. Not written to the log.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<(), Error> {
        let node = &self.running.node;
        let started = tokio::time::Instant::now();
        loop {
            node.check_running()?;
            let alive = match node.leader() {
                Some((leader, _)) if leader == node.id() => node.keep_alive_here(id),
                Some((leader, address)) => {
                    let ask = Ask::KeepAlive { lease: id };
                    match node.links.ask(leader, address.as_deref(), ask, ATTEMPT_PATIENCE).await {
                        Ok(Answer::KeepAlive(alive)) => alive,
                        _ => None,
                    }
                }
                None => None,
            };
            match alive {
                Some(true) => return Ok(()),
                Some(false) => return Err(Error::LeaseNotFound { id }),
                None if started.elapsed() >= CALL_PATIENCE => return Err(node.no_leader(started)),
                None => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Ends the lease and deletes its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended already.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<(), Error> {
        match self.running.node.write(Command::LeaseRevoke { id }).await? {
            Reply::LeaseEnded => Ok(()),
            Reply::LeaseNotFound { id } => Err(Error::LeaseNotFound { id }),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Follows the keys under a prefix, as applied on this node. Never waits for a quorum.
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch::new(Arc::clone(&self.running.node.view), prefix)
    }

    /// Waits until every reachable member has applied `revision`; returns how many could not confirm it in time.
    pub async fn wait_applied_everywhere(&self, revision: Revision, timeout: Duration) -> usize {
        let node = &self.running.node;
        let others = node.members().into_iter().filter(|(id, _)| *id != node.id() && node.book.is_reachable(*id));
        let asked = stream::iter(others.collect::<Vec<_>>()).map(|(id, peer)| async move {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            let ask = Ask::Applied { revision, timeout_ms };
            matches!(node.links.ask(id, Some(&peer.address), ask, timeout).await, Ok(Answer::Applied(true)))
        });
        let missing = asked.buffer_unordered(CONFIRMATIONS_AT_ONCE).filter(|applied| std::future::ready(!applied));
        let here = async {
            let mut progress = node.view.progress();
            let applied = progress.wait_for(|progress| progress.revision >= revision);
            usize::from(!tokio::time::timeout(timeout, applied).await.is_ok_and(|applied| applied.is_ok()))
        };
        let (missing, here) = tokio::join!(missing.count(), here);
        missing + here
    }

    /// What this node knows about itself. No I/O.
    #[must_use]
    pub fn status(&self) -> Status {
        self.running.node.status.borrow().clone()
    }

    /// To wait for a change, for example with `wait_for(|s| s.is_ready())`.
    #[must_use]
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.running.node.status.subscribe()
    }

    /// Completes, with the reason, when the node cannot go on and the process should be started anew. Never
    /// completes after an orderly [`shutdown`](Self::shutdown).
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut status = self.status_changes();
        async move {
            let failed = status.wait_for(|status| matches!(status.phase, Phase::Failed { .. })).await;
            match failed.map(|status| status.phase.clone()) {
                Ok(Phase::Failed { reason }) => reason,
                _ => std::future::pending().await,
            }
        }
    }

    /// Stops the node: hands leadership over if it can, flushes, closes the port and releases the data directory.
    pub async fn shutdown(&self) {
        let node = &self.running.node;
        if node.stop.is_cancelled() {
            return node.tracker.wait().await;
        }
        self.hand_over().await;
        node.stop.cancel();
        if let Err(error) = node.raft.shutdown().await {
            tracing::warn!(%error, "the consensus engine did not stop in order");
        }
        node.tracker.close();
        if tokio::time::timeout(STOP_PATIENCE, node.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = node.tracker.len(), "some tasks did not stop in time");
        }
        let closing = Arc::clone(node);
        let closed = tokio::task::spawn_blocking(move || closing.view.close()).await;
        if let Err(error) = closed.map_err(std::io::Error::other).flatten() {
            tracing::warn!(%error, "cannot flush the state; it will be brought up to date from the log");
        }
        drop(self.running.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Gives the leadership to a voter that is there, so that nobody has to notice that this node is gone.
    async fn hand_over(&self) {
        let node = &self.running.node;
        if node.leading().is_none() {
            return;
        }
        let status = self.status();
        let heir = status.members.iter().find(|member| member.voter && member.reachable && member.id != node.id());
        let Some(heir) = heir else { return };
        if node.raft.trigger().transfer_leader(heir.id.0).await.is_ok() {
            let mut metrics = node.raft.metrics();
            let id = node.id().0;
            let handed = metrics.wait_until(|metrics| metrics.current_leader.is_some_and(|leader| leader != id));
            // If it does not work out, the others elect one by themselves.
            drop(tokio::time::timeout(HAND_OVER_PATIENCE, handed).await);
        }
    }
}

fn expectation(key: &Key, expect: Option<Expect>) -> Vec<Compare> {
    expect.into_iter().map(|expect| Compare { key: key.clone(), test: Test::Expect(expect) }).collect()
}

fn conflict(outcome: &TxnOutcome) -> Error {
    let current = match outcome.results.first() {
        Some(OpResult::Get(Some(entry))) => Some(entry.mod_revision),
        _ => None,
    };
    Error::Conflict { current }
}

fn check_size(txn: &Txn) -> Result<(), Error> {
    let count = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if count > TXN_OPS_MAX {
        return Err(Error::TooManyOps { count, max: TXN_OPS_MAX });
    }
    for op in txn.success.iter().chain(&txn.failure) {
        if let Op::Put { value, .. } = op
            && value.len() > VALUE_BYTES_MAX
        {
            return Err(Error::TooLarge { what: "the value", bytes: value.len(), max: VALUE_BYTES_MAX });
        }
    }
    let bytes = txn.weight();
    if bytes > TXN_BYTES_MAX {
        return Err(Error::TooLarge { what: "the transaction", bytes, max: TXN_BYTES_MAX });
    }
    Ok(())
}
