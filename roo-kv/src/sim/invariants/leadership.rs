//! One leader in a term, votes never go back, not even over restarts.
//!
//! A term may have several candidates that win one after the other (openraft orders votes by term and node), but what
//! a node has said by its vote stays said.

use std::collections::BTreeMap;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use crate::node::Node;
use crate::raft::{LogIdForm, VoteForm};

#[derive(Default)]
pub(in crate::sim) struct Leadership {
    /// By term and node: who led.
    leaders: BTreeMap<(u64, u64), usize>,
    /// By node: with which vote its log was last acknowledged.
    votes: BTreeMap<u64, VoteForm>,
    /// By index and leader: one entry.
    committed: BTreeMap<u64, LogIdForm>,
}

impl Leadership {
    pub(super) fn look(&mut self, host: usize, node: &Node) -> Result<(), String> {
        let metrics = node.raft.metrics();
        let metrics = metrics.borrow_watched();
        let vote = VoteForm::from(&metrics.vote);
        if metrics.state == ServerState::Leader {
            if !vote.committed || vote.node != node.id().0 {
                return Err(format!("host {host} leads with the vote {vote:?}"));
            }
            let leader = *self.leaders.entry((vote.term, vote.node)).or_insert(host);
            if leader != host {
                return Err(format!("hosts {leader} and {host} both lead with {vote:?}"));
            }
        }
        if let Some(committed) = metrics.local_committed.as_ref().map(LogIdForm::from) {
            let known = *self.committed.entry(committed.index).or_insert(committed);
            if known != committed {
                return Err(format!("host {host} has committed {committed:?}, others {known:?}"));
            }
        }
        // A committed vote was granted by a quorum, each of which had it on its disk.
        let before = self.votes.entry(node.id().0).or_default();
        if vote.committed && vote.node == node.id().0 {
            if (vote.term, vote.node) < (before.term, before.node) {
                return Err(format!("host {host} went back from the vote {before:?} to {vote:?}"));
            }
            *before = vote;
        }
        Ok(())
    }
}
