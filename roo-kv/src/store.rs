//! The handle that the rest of Roo holds.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::backup::{BackupHeader, RestoreOptions, RestoreOutcome};
use crate::command::{Command, Reply};
use crate::config::Config;
use crate::error::{Error, RestoreError, StartError};
use crate::follow::{Follow, Since};
use crate::footprint::Footprint;
use crate::id::{ClusterId, Revision};
use crate::key::Key;
use crate::keyring::Keyring;
use crate::membership::MemberChange;
use crate::node::Node;
use crate::peer::{Answer, Ask};
use crate::runtime::blocking;
use crate::start;
use crate::status::{Phase, Status};
use crate::txn::{
    Compare, Entry, Expect, Op, OpResult, Page, PutOptions, ReadLevel, Scan, TXN_BYTES_MAX, TXN_DELETES_MAX,
    TXN_OPS_MAX, TXN_RESULT_BYTES_MAX, Test, Txn, TxnOutcome, VALUE_BYTES_MAX,
};
use crate::watch::{Watch, WatchError};

/// Members asked at once whether they have applied something.
const CONFIRMATIONS_AT_ONCE: usize = 64;

/// How long an orderly stop waits for tasks to end; the state is saved after that.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A node of the replicated store. Cheap to clone; all clones are the same node, which runs until
/// [`shutdown`](Store::shutdown) even if they are all dropped.
///
/// Every call is tried for up to five seconds across elections and lost links before it fails, and may be made
/// on any node: what only the leader can do is forwarded to it.
#[derive(Clone)]
pub struct Store {
    pub(crate) node: Arc<Node>,
    keyring: Arc<Keyring>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("node", &self.node.id()).finish_non_exhaustive()
    }
}

impl Store {
    /// The handle of a node that a simulation has started.
    #[cfg(test)]
    pub(crate) fn of(node: Arc<Node>, keyring: Arc<Keyring>) -> Self {
        Self { node, keyring }
    }

    /// Opens the data directory, starts the peer port and looks for others in the background.
    ///
    /// Returns as soon as the node runs, not only when a cluster is formed: see [`status`](Self::status).
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (node, keyring) = start::start(config).await?;
        Ok(Self { node, keyring })
    }

    /// The secrets that this node goes by.
    #[must_use]
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The entry under a key.
    ///
    /// # Errors
    /// [`Error`]; a stale read fails only if the node has failed.
    pub async fn get(&self, key: &Key, level: ReadLevel) -> Result<Option<Entry>, Error> {
        Ok(self.get_at(key, level).await?.0)
    }

    /// The entry under a key, and the revision of the store at which it was looked up.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_at(&self, key: &Key, level: ReadLevel) -> Result<(Option<Entry>, Revision), Error> {
        let node = &self.node;
        node.catch_up(level).await?;
        node.look(|view| view.entry(key.as_str()))
    }

    /// A page of entries, as they were at one revision.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan(&self, range: Scan, level: ReadLevel) -> Result<Page, Error> {
        let node = &self.node;
        node.catch_up(level).await?;
        node.look(|view| view.page(&range))
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
            Reply::DeletesTooMany => Err(Error::TooManyDeletes { max: TXN_DELETES_MAX }),
            Reply::ReadsTooMuch { bytes } => Err(Error::TooLarge {
                what: "what the transaction reads",
                bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                max: TXN_RESULT_BYTES_MAX,
            }),
            _ => Err(Error::OutcomeUnknown),
        }
    }

    /// Everything in the store as it is now, as a file that comes in pieces; writing goes on meanwhile. An error among them
    /// says that the file is not whole. Dropping the stream ends it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn backup(
        &self,
    ) -> Result<(BackupHeader, impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + use<>), Error> {
        self.node.backup().await
    }

    /// Puts a backup into a cluster that holds nothing yet, on all nodes, in one step.
    ///
    /// If the future is dropped, it is in place or it is not.
    ///
    /// # Errors
    /// [`RestoreError`]; then nothing was changed, except if it is [`Error::OutcomeUnknown`].
    pub async fn restore(
        &self,
        pieces: impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send,
        options: RestoreOptions,
    ) -> Result<RestoreOutcome, RestoreError> {
        self.node.restore(pieces, options).await
    }

    /// Follows the keys under a prefix, as applied on this node. Never waits for a quorum.
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch::begin(Arc::clone(&self.node.view), prefix)
    }

    /// Follows what happens to the keys under a prefix, as applied on this node, from any revision of the history. Never
    /// waits for a quorum.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] if what happened that early is no longer kept.
    pub fn follow(&self, prefix: &str, since: Since) -> Result<Follow, WatchError> {
        Follow::begin(Arc::clone(&self.node.view), prefix, since)
    }

    /// What of the history is kept on this node: everything that happened at this revision and later.
    ///
    /// # Errors
    /// Only if the node has failed.
    pub fn history_begins(&self) -> Result<Revision, Error> {
        self.node.look(|view| {
            let state = view.state();
            crate::state::oldest(&state.records, state.meta.revision)
        })
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

    /// Changes who belongs to the cluster, who votes, or who leads. Tried for up to fifteen seconds.
    ///
    /// # Errors
    /// [`Error::Membership`] says what speaks against it; nothing was changed then. If the future is dropped the
    /// change may or may not happen.
    pub async fn change_membership(&self, change: MemberChange) -> Result<(), Error> {
        self.node.change_membership(change).await
    }

    /// When the majority of the voters is lost for good: goes on alone, with the data of this node, as a new cluster,
    /// whose identity is returned. What only the lost nodes had stored is lost, and they are refused should they come
    /// back. The node then ends: see [`failed`](Self::failed) and [`wants_restart`](Self::wants_restart).
    ///
    /// # Errors
    /// [`Error::Rescue`] while a majority answers, or another survivor has more. If the future is dropped it may or
    /// may not happen.
    pub async fn rescue(&self) -> Result<ClusterId, Error> {
        self.node.rescue().await
    }

    /// Whether the node, which has [`failed`](Self::failed), wants to be started again at once.
    #[must_use]
    pub fn wants_restart(&self) -> bool {
        self.node.ending.get().is_some_and(|ending| ending.restart)
    }

    /// What this node knows about itself; all but the revision may be some milliseconds old. No I/O.
    #[must_use]
    pub fn status(&self) -> Status {
        let progress = *self.node.view.progress().borrow();
        Status { revision: progress.revision, applied: progress.applied, ..self.node.status.borrow().clone() }
    }

    /// The revision of the state on this node.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.node.view.progress().borrow().revision
    }

    /// What this node takes on its disk. Looks through the data directory.
    pub async fn footprint(&self) -> Footprint {
        let node = Arc::clone(&self.node);
        blocking(move || Ok(node.footprint())).await.unwrap_or_default()
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
        node.abdicate().await;
        node.stop.cancel();
        if let Err(error) = node.raft.shutdown().await {
            tracing::warn!(%error, "the consensus engine did not stop in order");
        }
        node.tracker.close();
        if tokio::time::timeout(STOP_PATIENCE, node.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = node.tracker.len(), "some tasks did not stop in time");
        }
        node.view.feeds().close();
        node.log.close().await;
        let closing = Arc::clone(node);
        if let Err(error) = blocking(move || closing.persisting.finish()).await {
            tracing::warn!(%error, "cannot save the state; the log will bring it up to date");
        }
        drop(node.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
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

    use openraft::async_runtime::WatchReceiver;

    use crate::{Peers, Secret, VotersMax};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn start(dir: &Path, peers: Peers) -> Store {
        let config = Config {
            data_dir: dir.to_owned(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            advertise: None,
            secret: Secret::from_text("a secret that tests share").unwrap(),
            orchestrator: None,
            peers,
            start_delay: Duration::ZERO,
            expect: 0,
            dead_after: Duration::ZERO,
            voters_max: VotersMax::default(),
            is_negligible: |_| false,
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

    /// Passes connections on to a port that is not known yet when it starts, and cuts each after so many bytes.
    async fn breaking_link(bytes_max: u64) -> (String, tokio::sync::watch::Sender<Option<std::net::SocketAddr>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, known) = tokio::sync::watch::channel(None);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let mut known = known.clone();
                tokio::spawn(async move {
                    let Some(target) = *known.wait_for(Option::is_some).await.unwrap() else { return };
                    let Ok(to) = tokio::net::TcpStream::connect(target).await else { return };
                    let (from_reading, mut from_writing) = from.into_split();
                    let (mut to_reading, mut to_writing) = to.into_split();
                    let mut limited = tokio::io::AsyncReadExt::take(from_reading, bytes_max);
                    tokio::select! {
                        _ = tokio::io::copy(&mut limited, &mut to_writing) => {}
                        _ = tokio::io::copy(&mut to_reading, &mut from_writing) => {}
                    }
                });
            }
        });
        (address, target)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_arrives_over_a_link_that_breaks_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let one = start(&dir.path().join("one"), Peers::Alone).await;
        let mut random = fastrand::Rng::with_seed(3);
        for n in 0..10 {
            let value: Vec<u8> = (0..VALUE_BYTES_MAX).map(|_| random.u8(..)).collect();
            one.put(format!("k{n}").parse().unwrap(), value.into(), PutOptions::default()).await.unwrap();
        }
        let raft = &one.node.raft;
        raft.trigger().snapshot().await.unwrap();
        let mut metrics = raft.metrics();
        let taken = metrics.wait_until(|metrics| metrics.snapshot.is_some());
        let snapshot = tokio::time::timeout(DEADLINE, taken).await.unwrap().unwrap().snapshot.unwrap();
        raft.trigger().purge_log(snapshot.index).await.unwrap();
        let purged = metrics.wait_until(|metrics| metrics.purged.is_some());
        tokio::time::timeout(DEADLINE, purged).await.unwrap().unwrap();

        // No connection carries more than a third of it.
        let (address, target) = breaking_link(3 << 20).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        target.send_replace(Some(listener.local_addr().unwrap()));
        let config = Config {
            data_dir: dir.path().join("two"),
            listener,
            advertise: Some(address),
            secret: Secret::from_text("a secret that tests share").unwrap(),
            orchestrator: None,
            peers: Peers::List(vec![one.status().address]),
            start_delay: Duration::ZERO,
            expect: 0,
            dead_after: Duration::ZERO,
            voters_max: VotersMax::default(),
            is_negligible: |_| false,
        };
        let two = Store::start(config).await.unwrap();
        let applied = two.node.applied(one.status().applied);
        tokio::time::timeout(DEADLINE * 2, applied).await.unwrap();
        let page = two.scan(Scan::prefix("k"), ReadLevel::Stale).await.unwrap();
        assert_eq!(page.entries.len(), 10);
        two.shutdown().await;
        one.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_log_is_trimmed_by_its_bytes_without_an_operator() {
        let dir = tempfile::tempdir().unwrap();
        let store = start(dir.path(), Peers::Alone).await;
        for _ in 0..40 {
            let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
            store.put("k".parse().unwrap(), value, PutOptions::default()).await.unwrap();
        }
        let mut metrics = store.node.raft.metrics();
        let purged = metrics.wait_until(|metrics| metrics.purged.is_some());
        tokio::time::timeout(DEADLINE, purged).await.unwrap().unwrap();
        store.shutdown().await;
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
    async fn a_write_that_a_stop_cut_off_is_not_said_to_have_failed() {
        let dir = tempfile::tempdir().unwrap();
        let mut refused = Vec::new();
        for round in 0..3 {
            let store = start(dir.path(), Peers::Alone).await;
            let mut writes = tokio::task::JoinSet::new();
            for n in 0..300 {
                let store = store.clone();
                let key: Key = format!("{round}/{n}").parse().unwrap();
                writes.spawn(async move {
                    let written = store.put(key.clone(), Bytes::new(), PutOptions::default()).await;
                    (key, written)
                });
            }
            // Some are done by now, some are on their way.
            drop(writes.join_next().await);
            store.shutdown().await;
            while let Some(write) = writes.join_next().await {
                match write.unwrap() {
                    (_, Ok(_) | Err(Error::OutcomeUnknown)) => {}
                    (key, Err(_)) => refused.push(key),
                }
            }
        }
        let store = start(dir.path(), Peers::Alone).await;
        for key in refused {
            let found = store.get(&key, ReadLevel::Linearizable).await.unwrap();
            assert_eq!(found, None, "{key} was refused and is there");
        }
        store.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn being_asked_by_a_member_makes_no_member_of_one_that_waits_to_be_taken_in() {
        let dir = tempfile::tempdir().unwrap();
        let one = start(&dir.path().join("one"), Peers::Alone).await;
        let config = Config {
            data_dir: dir.path().join("two"),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            advertise: None,
            secret: Secret::from_text("a secret that tests share").unwrap(),
            // Nobody is there.
            orchestrator: None,
            peers: Peers::List(vec!["127.0.0.1:1".to_owned()]),
            start_delay: Duration::ZERO,
            expect: 0,
            dead_after: Duration::ZERO,
            voters_max: VotersMax::default(),
            is_negligible: |_| false,
        };
        let two = Store::start(config).await.unwrap();
        two.node.identity.expect_to_join(one.status().cluster_id.unwrap());
        let ask = Ask::IsMember { node: one.node.id(), passed_on: false };
        let asked = one.node.links.ask_address(&two.status().address, ask, DEADLINE).await;
        assert!(matches!(asked, Err(crate::peer::LinkError::Refused(_))), "{asked:?}");
        assert_eq!(two.node.identity.cluster(), None);
        two.shutdown().await;
        one.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_that_was_stopped_has_no_task_left() {
        let dir = tempfile::tempdir().unwrap();
        let one = start(&dir.path().join("one"), Peers::Alone).await;
        let two = start(&dir.path().join("two"), Peers::List(vec![one.status().address])).await;
        put(&two, "k").await;
        for store in [two, one] {
            store.shutdown().await;
            assert_eq!(store.node.tracker.len(), 0);
        }
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
