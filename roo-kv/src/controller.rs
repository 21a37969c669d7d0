//! What the leader does on its own: promoting learners, recording new addresses, ending leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use crate::command::{Command, Reply};
use crate::id::NodeId;
use crate::node::Node;
use crate::raft::Peer;
use crate::state;

/// Between looks.
const PAUSE: Duration = Duration::from_millis(200);

/// A learner that is not further behind than this has caught up.
const LAG_MAX: u64 = 200;

/// How many of so many members vote: an odd number from three on, as an even one survives no more losses. Of two, both:
/// with one, the loss of its disk would lose acknowledged writes.
pub(crate) fn voter_target(members: usize) -> usize {
    match members {
        0..=2 => members,
        3..=4 => 3,
        5..=6 => 5,
        _ => 7,
    }
}

/// Runs until the node stops; acts only while the node leads.
pub(crate) async fn run(node: Arc<Node>) {
    let stop = node.stop.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
        match node.leading() {
            // Only a leader whose word counts may judge who is away and what has ended.
            Some(term) if node.leads_surely() => {
                end_leases(&node, term).await;
                if let Some(change) = next_change(&node) {
                    tracing::info!(change = ?change, "changing the membership");
                    if let Err(error) = node.raft.change_membership(change, true).await {
                        tracing::debug!(%error, "the membership could not be changed now");
                    }
                }
            }
            Some(_) => {}
            None => node.leases.step_down(),
        }
    }
}

/// One change at a time, and none while another is on its way.
fn next_change(node: &Node) -> Option<ChangeMembers<u64, Peer>> {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let membership = &metrics.membership_config;
    if membership.get_joint_config().len() != 1 || membership.log_id() != metrics.committed_membership_config.log_id() {
        return None;
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    if let Some(moved) = moved(node, membership.nodes()) {
        return Some(ChangeMembers::SetNodes(moved));
    }
    let last = metrics.last_log_index.unwrap_or(0);
    let replication = metrics.replication.as_ref()?;
    let caught_up: Vec<u64> = membership
        .nodes()
        .map(|(id, _)| *id)
        .filter(|id| !voters.contains(id) && node.book.is_reachable(NodeId(*id)))
        .filter(|id| replication.get(id).is_some_and(|at| at.as_ref().is_some_and(|at| at.index + LAG_MAX >= last)))
        .collect();
    // Members that are away do not count: they would leave an even number of voters behind.
    if voters.len() < voter_target(voters.len() + caught_up.len()) {
        let promoted = caught_up.first()?;
        return Some(ChangeMembers::AddVoterIds(BTreeSet::from([*promoted])));
    }
    None
}

fn moved<'a>(node: &Node, members: impl Iterator<Item = (&'a u64, &'a Peer)>) -> Option<BTreeMap<u64, Peer>> {
    let moved: BTreeMap<u64, Peer> = members
        .filter_map(|(id, peer)| {
            let address = if NodeId(*id) == node.id() {
                node.own_address.current()
            } else {
                node.book.address(NodeId(*id)).filter(|_| node.book.is_reachable(NodeId(*id)))?
            };
            (address != peer.address).then_some((*id, Peer { address }))
        })
        .collect();
    (!moved.is_empty()).then_some(moved)
}

async fn end_leases(node: &Arc<Node>, term: u64) {
    if !node.leases.leads(term) && !take_over_leases(node, term).await {
        return;
    }
    for id in node.leases.ended(Instant::now()) {
        let node = Arc::clone(node);
        node.tracker.clone().spawn(async move {
            let ended = node.write(Command::LeaseExpire { id }).await;
            let gone = matches!(ended, Ok(Reply::LeaseEnded | Reply::LeaseNotFound { .. }));
            node.leases.finished(id, gone);
        });
    }
}

async fn take_over_leases(node: &Arc<Node>, term: u64) -> bool {
    node.leases.begin(term);
    // Everything that was committed before this leadership must be applied, or a lease could be missed.
    let Ok((log_id, _)) = node.raft.get_read_log_id(openraft::ReadPolicy::ReadIndex).await else { return false };
    node.applied(Some(log_id.index())).await;
    let view = Arc::clone(&node.view);
    let reading = tokio::task::spawn_blocking(move || view.read(|engine, _| state::leases(engine)));
    match reading.await.map_err(std::io::Error::other).flatten() {
        Ok(leases) => {
            let leases = leases.into_iter().map(|(id, record)| (id, Duration::from_millis(record.ttl_ms)));
            node.leases.take_over(term, leases, Instant::now());
            true
        }
        Err(error) => {
            tracing::error!(%error, "cannot read the leases");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_odd_from_three_on_and_at_most_seven() {
        let targets: Vec<usize> = (0..10).map(voter_target).collect();
        assert_eq!(targets, [0, 1, 2, 3, 3, 5, 5, 7, 7, 7]);
    }
}
