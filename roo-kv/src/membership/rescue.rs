//! The way out when the majority of the voters is lost for good: one survivor goes on alone, as another cluster.
//!
//! Raft has no safe way to do this: what only the lost nodes had stored is gone, and should they come back, they still
//! are a majority. So it happens only on demand, and the cluster gets a new identity: whoever still has the old one is
//! refused, and ends as soon as it meets a node that knows of the rescue.
//!
//! 1. The identity file is replaced, in one piece: the new cluster, the old one as a former one, and an [`Errand`].
//! 2. The process ends, and starts again.
//! 3. Before the consensus engine starts, an entry is put behind the end of the log that makes this node the only voter.
//! 4. The errand is struck off.
//!
//! A power cut before 1 leaves the node as it was. After 1, the next start goes on with 3, which may be done twice. All
//! entries that the survivor has are kept, also those of which it does not know whether they were acknowledged: they may
//! have been.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use crate::error::{Error, RescueError};
use crate::id::{ClusterId, NodeId};
use crate::identity::{Errand, Identity};
use crate::node::{Ending, Node};
use crate::peer::{Answer, Ask};
use crate::raft::{LogEntry, LogId, LogIdForm, Membership, Peer, Types, Vote, VoteForm};
use crate::runtime::blocking;

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const ASKS_AT_ONCE: usize = 32;

/// What a survivor knows of the others.
#[derive(Debug, Default)]
struct Wreck {
    /// The sets of voters, two while they change.
    voters: Vec<BTreeSet<NodeId>>,
    /// Who answers, this node included, and where its log ends.
    answering: BTreeMap<NodeId, Option<LogIdForm>>,
}

impl Wreck {
    /// Whether a rescue is justified, and this is the node to do it on.
    fn check(&self, own: NodeId) -> Result<(), RescueError> {
        let quorate = |voters: &BTreeSet<NodeId>| {
            let answering = voters.iter().filter(|id| self.answering.contains_key(id)).count();
            answering > voters.len() / 2
        };
        if self.voters.iter().all(quorate) {
            let voters: BTreeSet<&NodeId> = self.voters.iter().flatten().collect();
            let answering = voters.iter().filter(|id| self.answering.contains_key(id)).count();
            return Err(RescueError::QuorumThere { voters: voters.len(), answering });
        }
        let newest = self.answering.iter().max_by_key(|(id, last)| (**last, **id == own));
        match newest {
            Some((id, last)) if *id != own => Err(RescueError::Newer {
                node: *id,
                index: last.map_or(0, |last| last.index),
                own: self.answering.get(&own).copied().flatten().map_or(0, |last| last.index),
            }),
            _ => Ok(()),
        }
    }
}

impl Node {
    /// Makes this node the only member of a new cluster with the data of the old one. It ends, and is to be started
    /// again. If the future is dropped it may or may not happen.
    pub(crate) async fn rescue(&self) -> Result<ClusterId, Error> {
        self.check_running()?;
        self.wreck().await.check(self.id())?;
        let identity = Arc::clone(&self.identity);
        let begun = blocking(move || identity.begin_rescue()).await;
        let cluster = begun
            .map_err(|error| Error::Failed { reason: format!("cannot write to the data directory: {error}") })?
            .ok_or(RescueError::NoMember)?;
        tracing::warn!(
            %cluster, former = ?self.identity.former().last(),
            "RESCUE: this node goes on alone as a new cluster; what only the lost nodes had stored is lost. Nodes that \
             come back from the former cluster are refused: empty their data directories before they are started"
        );
        self.end(Ending {
            reason: format!("it starts again as the only node of the cluster {cluster}"),
            restart: true,
        });
        Ok(cluster)
    }

    async fn wreck(&self) -> Wreck {
        let membership = self.raft.metrics().borrow_watched().membership_config.clone();
        let sets = membership.get_joint_config().iter();
        let voters = sets.map(|set| set.iter().map(|id| NodeId(*id)).collect()).collect();
        let others = self.members().into_iter().filter(|(id, _)| *id != self.id());
        let asked = stream::iter(others.collect::<Vec<_>>()).map(|(id, peer)| async move {
            match self.links.ask(id, Some(&peer.address), Ask::LastLog, ASK_TIMEOUT).await {
                Ok(Answer::LastLog(last)) => Some((id, last)),
                _ => None,
            }
        });
        let mut answering: BTreeMap<_, _> =
            asked.buffer_unordered(ASKS_AT_ONCE).filter_map(std::future::ready).collect().await;
        answering.insert(self.id(), self.last_log().await);
        Wreck { voters, answering }
    }

    /// Where this node's log ends.
    pub(crate) async fn last_log(&self) -> Option<LogIdForm> {
        let state = self.raft.with_raft_state(|state| state.log_ids.last().map(LogIdForm::from));
        state.await.ok().flatten()
    }
}

/// Puts the entry behind the end of the log that makes `node` the only voter. Durable when it returns; may be repeated.
pub(crate) async fn take_over_alone<L: RaftLogStorage<Types>>(
    log: &mut L,
    node: NodeId,
    address: String,
) -> io::Result<()> {
    let last = log.get_log_state().await?.last_log_id;
    let vote = log.get_log_reader().await.read_vote().await?.map(|vote| VoteForm::from(&vote).term);
    // Above all that there was, so that nothing of the past outranks it.
    let term = vote.unwrap_or(0).max(last.as_ref().map_or(0, |id| LogIdForm::from(id).term)) + 1;
    let index = last.map_or(0, |id| id.index + 1);
    let alone = Membership::new(vec![BTreeSet::from([node.0])], BTreeMap::from([(node.0, Peer::at(address))]));
    let membership = alone.map_err(io::Error::other)?;
    // The vote first: no entry may be of a later term than the vote.
    log.save_vote(&Vote::from(VoteForm { term, node: node.0, committed: false })).await?;
    let log_id = LogId::from(LogIdForm { term, node: node.0, index });
    log.blocking_append([LogEntry { log_id, payload: EntryPayload::Membership(membership) }])
        .await
        .map_err(io::Error::other)
}

/// Does what an earlier run left to be done, once the log is open.
pub(crate) async fn finish<L: RaftLogStorage<Types>>(
    identity: &Arc<Identity>,
    log: &mut L,
    address: String,
) -> io::Result<()> {
    if identity.errand() != Some(Errand::Rescue) {
        return Ok(());
    }
    take_over_alone(log, identity.node, address).await?;
    let identity = Arc::clone(identity);
    blocking(move || identity.finish_errand()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wreck(voters: &[u64], answering: &[(u64, u64)]) -> Result<(), RescueError> {
        let last = |index| Some(LogIdForm { term: 1, node: 1, index });
        let answering = answering.iter().map(|(id, index)| (NodeId(*id), last(*index))).collect();
        Wreck { voters: vec![voters.iter().map(|id| NodeId(*id)).collect()], answering }.check(NodeId(1))
    }

    #[test]
    fn only_without_a_majority_and_only_where_the_log_is_longest() {
        assert_eq!(wreck(&[1, 2, 3], &[(1, 7)]), Ok(()));
        assert_eq!(wreck(&[1, 2, 3], &[(1, 7), (4, 7)]), Ok(()));
        assert_eq!(wreck(&[1, 2], &[(1, 7)]), Ok(()));
        assert_eq!(wreck(&[2, 3, 4], &[(1, 7)]), Ok(()), "a learner may be all that is left");
        let there = RescueError::QuorumThere { voters: 3, answering: 2 };
        assert_eq!(wreck(&[1, 2, 3], &[(1, 7), (2, 7)]), Err(there));
        assert_eq!(wreck(&[1], &[(1, 7)]), Err(RescueError::QuorumThere { voters: 1, answering: 1 }));
        let newer = RescueError::Newer { node: NodeId(2), index: 8, own: 7 };
        assert_eq!(wreck(&[1, 2, 3, 4, 5], &[(1, 7), (2, 8)]), Err(newer));
    }
}
