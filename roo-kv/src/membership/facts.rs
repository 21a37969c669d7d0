//! What the leader knows about the members when it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use crate::id::NodeId;
use crate::node::Node;

/// A learner that is not further behind than this has caught up.
const LAG_MAX: u64 = 200;

/// The members as their leader sees them.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The leader, which decides.
    pub(super) own: NodeId,
    pub(super) members: BTreeMap<NodeId, MemberFacts>,
}

/// One member.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberFacts {
    pub(super) voter: bool,
    /// Somebody wants it not to vote.
    pub(super) held: bool,
    /// Entries that it has yet to store; `None`: not known.
    pub(super) behind: Option<u64>,
    pub(super) silence: Silence,
    /// Another node, which answers, has its address, so it can't be there any more.
    pub(super) displaced: bool,
}

/// Whether, and for how long, nothing has been heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Silence {
    /// It answers.
    #[default]
    None,
    /// Nothing for this long, counted from the beginning of the leadership at the earliest.
    For(Duration),
}

impl MemberFacts {
    pub(super) fn answers(&self) -> bool {
        self.silence == Silence::None
    }

    pub(super) fn is_silent_for(&self, time: Duration) -> bool {
        matches!(self.silence, Silence::For(silent) if silent >= time)
    }

    pub(super) fn has_caught_up(&self) -> bool {
        self.behind.is_some_and(|behind| behind <= LAG_MAX)
    }

    /// It could vote at once.
    pub(super) fn is_spare(&self) -> bool {
        !self.voter && !self.held && self.answers() && self.has_caught_up()
    }
}

impl Facts {
    pub(super) fn voters(&self) -> BTreeSet<NodeId> {
        self.members.iter().filter(|(_, member)| member.voter).map(|(id, _)| *id).collect()
    }

    pub(super) fn spares(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|(_, member)| member.is_spare()).map(|(id, _)| *id)
    }

    /// How many of these nodes answer.
    pub(super) fn answering(&self, nodes: &BTreeSet<NodeId>) -> usize {
        nodes.iter().filter(|id| self.members.get(id).is_some_and(MemberFacts::answers)).count()
    }

    /// Whether these nodes could commit something now.
    pub(super) fn is_quorate(&self, voters: &BTreeSet<NodeId>) -> bool {
        self.answering(voters) > voters.len() / 2
    }

    /// The voter that would take the leadership over with the least delay.
    pub(super) fn heir(&self) -> Option<NodeId> {
        let able = self.members.iter().filter(|(id, m)| **id != self.own && m.voter && m.answers());
        able.filter_map(|(id, m)| Some((m.behind?, *id))).min().map(|(_, id)| id)
    }

    /// As this node sees it; silence counts from `since` at the earliest. `None`: it does not lead.
    pub(super) fn of(node: &Node, since: Instant) -> Option<Self> {
        let metrics = node.raft.metrics().borrow_watched().clone();
        let membership = &metrics.membership_config;
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication.as_ref()?;
        let own = node.id();
        let of_member = |id: NodeId, held: bool, address: &str| {
            let stored = replication.get(&id.0).and_then(|at| at.as_ref()).map(|at| at.index);
            let answers = id == own || node.book.is_reachable(id);
            let heard = node.book.last_heard(id).map_or(since, |heard| heard.max(since));
            MemberFacts {
                voter: voters.contains(&id.0),
                held,
                behind: if id == own { Some(0) } else { stored.map(|stored| last.saturating_sub(stored)) },
                silence: if answers { Silence::None } else { Silence::For(heard.elapsed()) },
                displaced: !answers && (node.own_address.current() == address || node.book.is_taken(address, id)),
            }
        };
        let members = membership.nodes().map(|(id, peer)| {
            let id = NodeId(*id);
            let address = node.book.address(id).unwrap_or_else(|| peer.address.clone());
            (id, of_member(id, peer.held, &address))
        });
        Some(Self { own, members: members.collect() })
    }
}

/// Members from text, the first one leads. `v` is a voter, `l` a learner that has caught up, `b` one that is behind, `h`
/// one that is held; then for how many seconds it is silent, or `x`: another node has its address.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) fn facts(text: &str) -> Facts {
    let members = text.split_whitespace().zip(1..).map(|(word, id)| {
        let (kind, silence) = word.split_at(1);
        let member = MemberFacts {
            voter: kind == "v",
            held: kind == "h",
            behind: Some(if kind == "b" { 100_000 } else { 3 }),
            silence: match silence {
                "" => Silence::None,
                "x" => Silence::For(Duration::from_secs(6)),
                seconds => Silence::For(Duration::from_secs(seconds.parse().unwrap())),
            },
            displaced: silence == "x",
        };
        (NodeId(id), member)
    });
    Facts { own: NodeId(1), members: members.collect() }
}
