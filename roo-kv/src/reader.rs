//! Reads: up to where the state must be applied before it may be looked at.

use std::io;
use std::sync::Arc;

use openraft::ReadPolicy;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::{ATTEMPT_PATIENCE, CALL_PATIENCE, Node, RETRY_PAUSE};
use crate::peer::{Answer, Ask, ReadAnswer};
use crate::txn::ReadLevel;
use crate::view::View;

impl Node {
    /// Waits until the state here is as fresh as asked for.
    pub(crate) async fn catch_up(&self, level: ReadLevel) -> Result<(), Error> {
        self.check_running()?;
        if level == ReadLevel::Stale {
            return Ok(());
        }
        let confirm = level == ReadLevel::Linearizable;
        let started = Instant::now();
        let deadline = started + CALL_PATIENCE;
        let caught_up = async {
            loop {
                if let ReadAnswer::At(index) = self.read_index(confirm).await {
                    return self.applied(index).await;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        tokio::select! {
            in_time = tokio::time::timeout_at(deadline, caught_up) => in_time.map_err(|_| self.no_leader(started)),
            () = self.stop.cancelled() => Err(Error::ShuttingDown),
        }
    }

    async fn read_index(&self, confirm: bool) -> ReadAnswer {
        let Some((leader, address)) = self.leader() else { return ReadAnswer::NotLeader };
        if leader == self.id() {
            return self.read_index_here(confirm).await;
        }
        let ask = Ask::ReadIndex { confirm };
        match self.links.ask(leader, address.as_deref(), ask, ATTEMPT_PATIENCE).await {
            Ok(Answer::Read(answer)) => answer,
            _ => ReadAnswer::NotLeader,
        }
    }

    /// Up to where a read must see, if this node leads.
    pub(crate) async fn read_index_here(&self, confirm: bool) -> ReadAnswer {
        if self.leading().is_none() {
            return ReadAnswer::NotLeader;
        }
        if !confirm {
            return ReadAnswer::At(self.view.progress().borrow().applied);
        }
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((log_id, _)) => ReadAnswer::At(Some(log_id.index())),
            Err(_) => ReadAnswer::NotLeader,
        }
    }

    /// Looks at the state, off the async workers.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let view = Arc::clone(&self.view);
        let reading = tokio::task::spawn_blocking(move || read(&view)).await;
        reading
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| Error::Failed { reason: format!("the state cannot be read: {error}") })
    }
}
