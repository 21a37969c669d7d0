//! Taking over from a leader whose process has ended.
//!
//! A follower that hears nothing waits for the leader's lease to end, and then for a random time on top, so that not all
//! campaign at once. If a process ends, its connections end at once: then nothing needs to be left to chance, and the
//! voters campaign one after the other as soon as the lease is over. If only the connection broke, the leader goes on
//! renewing its lease, and a pre-vote (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 9.6) is refused
//! without any harm.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use crate::id::NodeId;
use crate::node::Node;
use crate::start::ELECTION_MS;

/// Between the campaigns of two voters: enough for the first to win and to be heard of.
const TURN: Duration = Duration::from_millis(60);

/// So often a voter tries, as it may have begun a moment before a lease ended.
const ATTEMPTS: u32 = 4;

/// How many connections from each peer are open.
#[derive(Debug, Default)]
pub(crate) struct Callers(Mutex<BTreeMap<NodeId, usize>>);

impl Callers {
    fn open(&self) -> MutexGuard<'_, BTreeMap<NodeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came(&self, peer: NodeId) {
        *self.open().entry(peer).or_default() += 1;
    }

    /// True if it was the last one.
    fn left(&self, peer: NodeId) -> bool {
        let mut open = self.open();
        let Some(count) = open.get_mut(&peer) else { return true };
        *count -= 1;
        let was_last = *count == 0;
        if was_last {
            open.remove(&peer);
        }
        was_last
    }

    fn has(&self, peer: NodeId) -> bool {
        self.open().contains_key(&peer)
    }
}

impl Node {
    /// A peer has connected itself with this node.
    pub(crate) fn reached_by(&self, peer: NodeId) {
        self.callers.came(peer);
    }

    /// A connection from a peer has ended. Each call belongs to one of [`reached_by`](Self::reached_by).
    pub(crate) fn left_by(self: &Arc<Self>, peer: NodeId) {
        if !self.callers.left(peer) {
            return;
        }
        let Some((term, turn)) = self.succession(peer) else { return };
        let node = Arc::clone(self);
        self.tracker.spawn(async move {
            let campaigning = node.succeed(peer, term, turn);
            tokio::select! {
                biased;
                () = node.stop.cancelled() => {}
                () = campaigning => {}
            }
        });
    }

    /// If that peer leads: in which term, and how many voters campaign before this one.
    fn succession(&self, peer: NodeId) -> Option<(u64, u32)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut heirs = metrics.membership_config.voter_ids().filter(|id| *id != peer.0);
        let turn = heirs.position(|id| id == self.id().0).filter(|_| metrics.current_leader == Some(peer.0))?;
        Some((metrics.current_term, u32::try_from(turn).ok()?))
    }

    async fn succeed(&self, leader: NodeId, term: u64, turn: u32) {
        tokio::time::sleep(Duration::from_millis(ELECTION_MS.end) + TURN * turn).await;
        for _ in 0..ATTEMPTS {
            if self.callers.has(leader) || self.succession(leader).is_none_or(|(now, _)| now != term) {
                return;
            }
            tracing::info!(%leader, term, "the leader has closed its connection: asking whether to take over");
            if self.raft.trigger().elect(true).await.is_err() {
                return;
            }
            tokio::time::sleep(TURN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_gone_when_its_last_connection_ends() {
        let (callers, peer) = (Callers::default(), NodeId(7));
        callers.came(peer);
        callers.came(peer);
        assert!(!callers.left(peer) && callers.has(peer));
        assert!(callers.left(peer) && !callers.has(peer));
    }
}
