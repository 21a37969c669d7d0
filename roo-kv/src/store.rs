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
use crate::node::{ATTEMPT_PATIENCE, CALL_PATIENCE, Node, RETRY_PAUSE};
use crate::peer::{Answer, Ask};
use crate::start;
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

/// A node of the replicated store. Cheap to clone; all clones are the same node, which runs until
/// [`shutdown`](Store::shutdown) even if they are all dropped.
///
/// Every call is tried for up to five seconds across elections and lost links before it fails, and may be made
/// on any node: what only the leader can do is forwarded to it.
#[derive(Clone)]
pub struct Store {
    node: Arc<Node>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("node", &self.node.id()).finish_non_exhaustive()
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
        Ok(Self { node: start::start(config).await? })
    }

    /// The entry under a key.
    ///
    /// # Errors
    /// [`Error`]; a stale read fails only if the node has failed.
    pub async fn get(&self, key: &Key, level: ReadLevel) -> Result<Option<Entry>, Error> {
        let node = &self.node;
        node.catch_up(level).await?;
        let key = key.clone();
        node.look(move |view| view.entry(key.as_str())).await
    }

    /// A page of entries, as they were at one revision.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan(&self, range: Scan, level: ReadLevel) -> Result<Page, Error> {
        let node = &self.node;
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
        match self.node.write(Command::Txn(txn)).await? {
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
        match self.node.write(Command::LeaseGrant { ttl_ms }).await? {
            Reply::LeaseGranted { id, .. } => Ok(id),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Lets the lease live for another whole TTL from now. Not written to the log.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<(), Error> {
        let node = &self.node;
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
        match self.node.write(Command::LeaseRevoke { id }).await? {
            Reply::LeaseEnded => Ok(()),
            Reply::LeaseNotFound { id } => Err(Error::LeaseNotFound { id }),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Follows the keys under a prefix, as applied on this node. Never waits for a quorum.
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch::new(Arc::clone(&self.node.view), prefix)
    }

    /// Waits until every reachable member has applied `revision`; returns how many could not confirm it in time.
    pub async fn wait_applied_everywhere(&self, revision: Revision, timeout: Duration) -> usize {
        let node = &self.node;
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
        self.node.status.borrow().clone()
    }

    /// To wait for a change, for example with `wait_for(|s| s.is_ready())`.
    #[must_use]
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.node.status.subscribe()
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
        let node = &self.node;
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
        drop(node.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Gives the leadership to a voter that is there, so that nobody has to notice that this node is gone.
    async fn hand_over(&self) {
        let node = &self.node;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::path::Path;

    use crate::{Peers, Secret};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn start(dir: &Path, peers: Peers) -> Store {
        let config = Config {
            data_dir: dir.to_owned(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            advertise: None,
            secret: Secret::from_text("a secret that tests share").unwrap(),
            peers,
            start_delay: Duration::ZERO,
        };
        let store = Store::start(config).await.unwrap();
        let mut changes = store.status_changes();
        tokio::time::timeout(DEADLINE, changes.wait_for(Status::is_ready)).await.unwrap().unwrap();
        store
    }

    async fn put(store: &Store, name: &str) -> Revision {
        store.put(name.parse().unwrap(), Bytes::from(vec![7; 1000]), PutOptions::default()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_that_is_too_far_behind_for_the_log_gets_a_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let one = start(&dir.path().join("one"), Peers::Alone).await;
        for n in 0..100 {
            put(&one, &format!("k{n}")).await;
        }
        let raft = &one.node.raft;
        raft.trigger().snapshot().await.unwrap();
        let mut metrics = raft.metrics();
        let taken = metrics.wait_until(|metrics| metrics.snapshot.is_some());
        let snapshot = tokio::time::timeout(DEADLINE, taken).await.unwrap().unwrap().snapshot.unwrap();
        raft.trigger().purge_log(snapshot.index).await.unwrap();
        let purged = metrics.wait_until(|metrics| metrics.purged.is_some());
        tokio::time::timeout(DEADLINE, purged).await.unwrap().unwrap();
        let last = put(&one, "after").await;

        let two_dir = dir.path().join("two");
        let two = start(&two_dir, Peers::List(vec![one.status().address])).await;
        let applied = two.node.applied(one.status().applied);
        tokio::time::timeout(DEADLINE, applied).await.unwrap();
        let page = two.scan(Scan::prefix(""), ReadLevel::Linearizable).await.unwrap();
        assert_eq!((page.entries.len(), page.revision), (101, last));
        assert!(two.node.shelf.newest().is_some(), "it came as a snapshot");
        two.shutdown().await;
        drop(two);

        // And what came that way can be rebuilt as well.
        std::fs::remove_dir_all(two_dir.join("db")).unwrap();
        let two = start(&two_dir, Peers::List(vec![one.status().address])).await;
        let page = two.scan(Scan::prefix(""), ReadLevel::Linearizable).await.unwrap();
        assert_eq!(page.entries.len(), 101);
        two.shutdown().await;
        one.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_that_is_sent_twice_happens_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = start(dir.path(), Peers::Alone).await;
        let node = &store.node;
        let op = Op::Put { key: "k".parse().unwrap(), value: Bytes::from_static(b"v"), lease: None };
        let command = Command::Txn(Txn { success: vec![op], ..Txn::default() });
        let request = crate::command::Request { origin: 1, sequence: 0, settled_below: 0, command };
        let first = node.propose_here(request.clone()).await;
        let second = node.propose_here(request).await;
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        let entry = store.get(&"k".parse().unwrap(), ReadLevel::Linearizable).await.unwrap().unwrap();
        assert_eq!(entry.version, 1);
        store.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_too_large_is_refused_with_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let store = start(dir.path(), Peers::Alone).await;
        let large = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
        let refused = store.put("k".parse().unwrap(), large, PutOptions::default()).await.unwrap_err();
        assert!(refused.to_string().contains("1048576"), "{refused}");
        let full = Bytes::from(vec![0; VALUE_BYTES_MAX]);
        store.put("k".parse().unwrap(), full, PutOptions::default()).await.unwrap();
        store.shutdown().await;
    }
}
