//! Reads: up to where the state must be applied before it may be looked at.
//!
//! A linearizable read writes nothing (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 6.4): the leader
//! notes how far it has committed, asks a quorum whether it still is the leader, and the reader looks at its state once
//! that much is applied. What was acknowledged before the read began is committed by then, since no later leader can have
//! acknowledged anything before a quorum turned away from this one.
//!
//! The question to the quorum is the same for all reads, so one round serves all that began before it did: the leader
//! holds one round at a time, and so does each other node, whose rounds ask the leader. Nobody is served by a round that
//! was under way already, as that may have noted an older place than the last acknowledged write.

use std::io;
use std::sync::Arc;

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::{ATTEMPT_PATIENCE, CALL_PATIENCE, Node, RETRY_PAUSE};
use crate::peer::{Answer, Ask, ReadAnswer};
use crate::rounds::{self, Waiting};
use crate::txn::ReadLevel;
use crate::view::View;

/// Holds the rounds of a node until it stops.
pub(crate) async fn run(node: Arc<Node>, waiting: Waiting<ReadAnswer>) {
    let serving = rounds::serve(waiting, || node.read_round());
    tokio::select! {
        biased;
        () = node.stop.cancelled() => {}
        () = serving => {}
    }
}

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
                if let ReadAnswer::At(index) = self.read_index(confirm).await.unwrap_or(ReadAnswer::NotLeader) {
                    return self.applied(index).await;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            in_time = tokio::time::timeout_at(deadline, caught_up) => in_time.map_err(|_| self.no_leader(started)),
            () = self.stop.cancelled() => Err(Error::ShuttingDown),
        }
    }

    async fn read_index(&self, confirm: bool) -> Option<ReadAnswer> {
        if confirm { self.reads.answer().await } else { Some(self.ask_leader(false).await) }
    }

    /// Up to where a read must see, if this node leads.
    pub(crate) async fn read_index_here(&self, confirm: bool) -> ReadAnswer {
        if self.leading().is_none() {
            return ReadAnswer::NotLeader;
        }
        self.read_index(confirm).await.unwrap_or(ReadAnswer::NotLeader)
    }

    /// One round: see above. It ends early if another leads meanwhile, who can be asked at once.
    async fn read_round(&self) -> ReadAnswer {
        let leader = self.leader().map(|(leader, _)| leader.0);
        let mut metrics = self.raft.metrics();
        let replaced = metrics.wait_until(|metrics| metrics.current_leader != leader);
        tokio::select! {
            biased;
            answer = self.ask_leader(true) => answer,
            _ = replaced => ReadAnswer::NotLeader,
        }
    }

    async fn ask_leader(&self, confirm: bool) -> ReadAnswer {
        let Some((leader, address)) = self.leader() else { return ReadAnswer::NotLeader };
        if leader != self.id() {
            let ask = Ask::ReadIndex { confirm };
            return match self.links.ask(leader, address.as_deref(), ask, ATTEMPT_PATIENCE).await {
                Ok(Answer::Read(answer)) => answer,
                _ => ReadAnswer::NotLeader,
            };
        }
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

    /// Looks at the state here, as it is now.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&View) -> io::Result<T>) -> Result<T, Error> {
        read(&self.view).map_err(|error| Error::Failed { reason: format!("the state cannot be read: {error}") })
    }
}
