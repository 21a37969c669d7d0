//! Carrying the decisions out: one change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::facts::Facts;
use super::plan::{ChangeAnswer, ChangeError, MemberChange, Step, plan};
use super::policy::{Grace, next_step};
use crate::error::Error;
use crate::id::NodeId;
use crate::node::{Node, RETRY_PAUSE};
use crate::peer::{Answer, Ask, LinkError};
use crate::raft::Peer;

/// How long a change that somebody asked for is tried, across elections and other changes.
const CHANGE_PATIENCE: Duration = Duration::from_secs(15);

/// How long a voter may take to say that it is there.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(1);

/// How long a node that lacks something is waited for before it is told.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(3);

/// How long one change may take. One that is cut short in the middle is finished by the leader at its next look.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a leader waits for its heir to lead.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(1500);

type Change = ChangeMembers<u64, Peer>;

/// What the state of openraft's membership allows.
enum Ground {
    /// A change is on its way.
    Moving,
    /// Whoever made the last change went away between its two halves.
    Halfway,
    /// A change may begin.
    Firm,
}

fn ground(node: &Node) -> Ground {
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = &metrics.membership_config;
    if membership.log_id() != metrics.committed_membership_config.log_id() {
        Ground::Moving
    } else if membership.get_joint_config().len() > 1 {
        Ground::Halfway
    } else {
        Ground::Firm
    }
}

/// Takes the next step that the leader takes by itself. Silence counts from `since`, when it began to lead surely.
pub(crate) async fn tend(node: &Node, since: Instant) {
    let Ok(_changing) = node.changing.try_lock() else { return };
    match ground(node) {
        Ground::Moving => return,
        Ground::Halfway => {
            change(node, "finish the last change", Change::AddVoterIds(BTreeSet::new()), true).await;
            return;
        }
        Ground::Firm => {}
    }
    if let Some(moved) = moved(node) {
        change(node, "note new addresses", Change::SetNodes(moved), true).await;
        return;
    }
    let Some(facts) = Facts::of(node, since) else { return };
    let Some(step) = next_step(&facts, Grace { dead_after: node.dead_after }, node.voters_max) else { return };
    match confirm(node, &facts, &step).await {
        Ok(()) => drop(take(node, &facts, &step).await),
        Err(error) => tracing::debug!(%step, %error, "a change of the membership waits"),
    }
}

/// Whether a majority of those who vote after the step answers right now. What was heard some seconds ago is not enough:
/// voters that can't confirm the change that made them voters can't confirm anything else either.
async fn confirm(node: &Node, facts: &Facts, step: &Step) -> Result<(), ChangeError> {
    if matches!(step, Step::HandOver { .. }) {
        return Ok(());
    }
    let voters = step.voters_after(facts);
    let mut others = node.members();
    others.retain(|id, _| *id != node.id() && voters.contains(id));
    let asked = stream::iter(others).map(|(id, peer)| async move {
        node.links.ask(id, Some(&peer.address), Ask::LastLog, CONFIRM_PATIENCE).await.is_ok()
    });
    let there = asked.buffer_unordered(voters.len()).filter(|there| std::future::ready(*there)).count().await;
    let answering = there + usize::from(voters.contains(&node.id()));
    if answering > voters.len() / 2 {
        Ok(())
    } else {
        Err(ChangeError::QuorumAtRisk { voters: voters.len(), answering })
    }
}

/// Members whose addresses are not what the membership says.
fn moved(node: &Node) -> Option<BTreeMap<u64, Peer>> {
    let moved = node.members().into_iter().filter_map(|(id, peer)| {
        let address = if id == node.id() {
            node.own_address.current()
        } else {
            node.book.address(id).filter(|_| node.book.is_reachable(id))?
        };
        (address != peer.address).then_some((id.0, Peer { address, ..peer }))
    });
    let moved: BTreeMap<u64, Peer> = moved.collect();
    (!moved.is_empty()).then_some(moved)
}

/// Takes a step; true if it is done.
async fn take(node: &Node, facts: &Facts, step: &Step) -> bool {
    let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|id| id.0).collect::<BTreeSet<u64>>();
    let is_voter = |id: &NodeId| facts.members.get(id).is_some_and(|member| member.voter);
    let hold = |nodes: &BTreeSet<NodeId>, held: bool| {
        let members = node.members().into_iter().filter(|(id, peer)| nodes.contains(id) && peer.held != held);
        Change::SetNodes(members.map(|(id, peer)| (id.0, Peer { held, ..peer })).collect())
    };
    let (members, keep) = match step {
        Step::HandOver { to } => return node.hand_over(*to).await,
        Step::Replace { by, keep, .. } => {
            let voting = Change::ReplaceAllVoters(ids(&step.voters_after(facts)));
            (Change::Batch(vec![hold(&BTreeSet::from([*by]), false), voting]), *keep)
        }
        Step::Remove { node } if is_voter(node) => (Change::RemoveVoters(BTreeSet::from([node.0])), false),
        Step::Remove { node } => (Change::RemoveNodes(BTreeSet::from([node.0])), true),
        Step::Promote { nodes } => (Change::Batch(vec![hold(nodes, false), Change::AddVoterIds(ids(nodes))]), true),
        Step::Demote { node, hold: held } => {
            let mut changes = vec![Change::RemoveVoters(BTreeSet::from([node.0]))];
            changes.extend(held.then(|| hold(&BTreeSet::from([*node]), true)));
            (Change::Batch(changes), true)
        }
        Step::Hold { node } => (hold(&BTreeSet::from([*node]), true), true),
    };
    change(node, &step.to_string(), members, keep).await
}

async fn change(node: &Node, what: &str, members: Change, keep: bool) -> bool {
    tracing::info!(change = what, "changing the membership");
    let changing = node.raft.change_membership(members, keep);
    let error = match tokio::time::timeout(STEP_PATIENCE, changing).await {
        Ok(Ok(_)) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no majority confirmed it in time".to_owned(),
    };
    tracing::warn!(change = what, %error, "the membership could not be changed now; it is tried again");
    false
}

impl Node {
    /// Has a change made by whoever leads. If the future is dropped it may or may not happen.
    pub(crate) async fn change_membership(&self, change: MemberChange) -> Result<(), Error> {
        let started = Instant::now();
        let mut unknown = false;
        loop {
            self.check_running()?;
            match self.propose_change(change).await {
                Some(ChangeAnswer::Done) => return Ok(()),
                // It may have begun to follow just now.
                Some(ChangeAnswer::Refused(ChangeError::Behind { .. })) if started.elapsed() < CATCH_UP_PATIENCE => {}
                // It was removed by an attempt whose answer was lost.
                Some(ChangeAnswer::Refused(ChangeError::NotAMember { .. })) if unknown => return Ok(()),
                Some(ChangeAnswer::Refused(error)) => return Err(error.into()),
                Some(ChangeAnswer::NotNow) => {}
                None => unknown = true,
            }
            if started.elapsed() >= CHANGE_PATIENCE {
                return Err(if unknown { Error::OutcomeUnknown } else { self.no_leader(started) });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// `None`: it may or may not have happened.
    async fn propose_change(&self, change: MemberChange) -> Option<ChangeAnswer> {
        let Some((leader, address)) = self.leader() else { return Some(ChangeAnswer::NotNow) };
        if leader == self.id() {
            return Some(self.change_here(change).await);
        }
        // The leader itself gives up earlier than this.
        let patience = STEP_PATIENCE + HAND_OVER_PATIENCE;
        match self.links.ask(leader, address.as_deref(), Ask::Change(change), patience).await {
            Ok(Answer::Changed(answer)) => Some(answer),
            Err(LinkError::Unreachable { .. } | LinkError::Refused(_)) => Some(ChangeAnswer::NotNow),
            Ok(_) | Err(LinkError::Lost(_) | LinkError::Timeout(_)) => None,
        }
    }

    /// Makes the change, if this node surely leads and no other is on its way.
    pub(crate) async fn change_here(&self, change: MemberChange) -> ChangeAnswer {
        let Ok(_changing) = self.changing.try_lock() else { return ChangeAnswer::NotNow };
        if !self.leads_surely() || !matches!(ground(self), Ground::Firm) {
            return ChangeAnswer::NotNow;
        }
        let Some(facts) = Facts::of(self, Instant::now()) else { return ChangeAnswer::NotNow };
        match plan(change, &facts, self.voters_max) {
            Err(error) => ChangeAnswer::Refused(error),
            Ok(None) => ChangeAnswer::Done,
            Ok(Some(step)) => {
                if let Err(error) = confirm(self, &facts, &step).await {
                    return ChangeAnswer::Refused(error);
                }
                let done = take(self, &facts, &step).await;
                let asked = matches!(change, MemberChange::Transfer { .. }) || !matches!(step, Step::HandOver { .. });
                if done && asked { ChangeAnswer::Done } else { ChangeAnswer::NotNow }
            }
        }
    }

    /// Gives the leadership away, so that nobody has to notice that this node is gone. Who can't be found in time is
    /// elected by the others.
    pub(crate) async fn abdicate(&self) {
        if let Some(heir) = Facts::of(self, Instant::now()).and_then(|facts| facts.heir()) {
            self.hand_over(heir).await;
        }
    }

    /// True if another node leads in the end.
    async fn hand_over(&self, heir: NodeId) -> bool {
        tracing::info!(%heir, "handing the leadership over");
        if self.raft.trigger().transfer_leader(heir.0).await.is_err() {
            return false;
        }
        let mut metrics = self.raft.metrics();
        let id = self.id().0;
        let handed = metrics.wait_until(|metrics| metrics.current_leader.is_some_and(|leader| leader != id));
        tokio::time::timeout(HAND_OVER_PATIENCE, handed).await.is_ok_and(|handed| handed.is_ok())
    }
}
