//! The handle that the rest of Roo holds.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::{Error, StartError};
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::status::Status;
use crate::txn::{Entry, Expect, Page, PutOptions, ReadLevel, Scan, Txn, TxnOutcome};
use crate::watch::Watch;

/// A node of the replicated store. Cheap to clone; all clones are the same node.
///
/// Every call is tried for up to five seconds across elections and lost links before it fails, and may be made
/// on any node: what only the leader can do is forwarded to it.
#[derive(Clone)]
pub struct Store {
    view: std::sync::Arc<crate::view::View>,
    status: watch::Receiver<Status>,
}

fn starting() -> Error {
    Error::NotReady { reason: "the store is being built".to_owned() }
}

impl Store {
    /// Opens the data directory, starts the peer port and looks for others in the background.
    ///
    /// Returns as soon as the node runs, not only when a cluster is formed: see [`status`](Self::status).
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Err(StartError::Raft { reason: format!("not yet: {}", config.data_dir.display()) })
    }

    /// The entry under a key.
    ///
    /// # Errors
    /// [`Error`]; a stale read fails only if the node has failed.
    pub async fn get(&self, _key: &Key, _level: ReadLevel) -> Result<Option<Entry>, Error> {
        Err(starting())
    }

    /// A page of entries, as they were at one revision.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan(&self, _range: Scan, _level: ReadLevel) -> Result<Page, Error> {
        Err(starting())
    }

    /// Writes a key and returns the revision of the write. Once it returns, the write survives the loss of any
    /// minority of the nodes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the expectation does not hold, [`Error::LeaseNotFound`], [`Error::TooLarge`].
    /// If the future is dropped the write may or may not happen.
    pub async fn put(&self, _key: Key, _value: Bytes, _options: PutOptions) -> Result<Revision, Error> {
        Err(starting())
    }

    /// Removes a key; `None` if it was not there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, _key: &Key, _expect: Option<Expect>) -> Result<Option<Revision>, Error> {
        Err(starting())
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// As [`put`](Self::put), except that conditions that do not hold are an outcome, not an error.
    pub async fn txn(&self, _txn: Txn) -> Result<TxnOutcome, Error> {
        Err(starting())
    }

    /// Makes a lease that ends `ttl` after its last keep-alive.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn lease_grant(&self, _ttl: Duration) -> Result<LeaseId, Error> {
        Err(starting())
    }

    /// Lets the lease live for another whole TTL from now. Not written to the log.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended.
    pub async fn lease_keep_alive(&self, _id: LeaseId) -> Result<(), Error> {
        Err(starting())
    }

    /// Ends the lease and deletes its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended already.
    pub async fn lease_revoke(&self, _id: LeaseId) -> Result<(), Error> {
        Err(starting())
    }

    /// Follows the keys under a prefix, as applied on this node. Never waits for a quorum.
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch::new(std::sync::Arc::clone(&self.view), prefix)
    }

    /// Waits until every reachable member has applied `revision`; returns how many could not confirm it in time.
    pub async fn wait_applied_everywhere(&self, _revision: Revision, _timeout: Duration) -> usize {
        0
    }

    /// What this node knows about itself. No I/O.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// To wait for a change, for example with `wait_for(|s| s.is_ready())`.
    #[must_use]
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Completes, with the reason, when the node cannot go on and the process should be started anew. Never
    /// completes after an orderly [`shutdown`](Self::shutdown).
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        std::future::pending()
    }

    /// Stops the node: hands leadership over if it can, flushes, closes the port and releases the data directory.
    pub async fn shutdown(&self) {}
}
