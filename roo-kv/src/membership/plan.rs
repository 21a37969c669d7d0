//! What somebody asks to be changed, and whether it may be. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::policy::voter_target;
use crate::config::VotersMax;
use crate::id::NodeId;

/// What may be asked of a cluster's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// The node leaves. One that runs joins again when it is restarted.
    Remove {
        /// Who.
        node: NodeId,
        /// Also if the node is up.
        force: bool,
    },
    /// The node votes from now on, if it is needed.
    Promote {
        /// Who.
        node: NodeId,
    },
    /// The node stays but does not vote, until it is promoted.
    Demote {
        /// Who.
        node: NodeId,
    },
    /// This voter leads from now on; `None`: whichever takes over fastest.
    Transfer {
        /// Who.
        to: Option<NodeId>,
    },
}

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Nobody has this id.
    #[error("node {node} is no member of the cluster; `roo node ls` shows who is")]
    NotAMember {
        /// The id given.
        node: NodeId,
    },
    /// The voters that would be left could not commit anything.
    #[error(
        "that would leave {voters} voters of which {answering} answer, too few to write anything; \
         bring those that are away back first, or remove them before this one"
    )]
    QuorumAtRisk {
        /// Voters afterwards.
        voters: usize,
        /// How many of them answer.
        answering: usize,
    },
    /// Nobody would be left.
    #[error("node {node} is the only voter; let another node join and be promoted first")]
    LastVoter {
        /// The node that can't be spared.
        node: NodeId,
    },
    /// A node that runs is rarely meant to be removed.
    #[error("node {node} is up; stop it first, or remove it by force")]
    StillUp {
        /// The node.
        node: NodeId,
    },
    /// It can do its new part only if it answers.
    #[error("node {node} does not answer; start it, and look at its log")]
    Silent {
        /// The node.
        node: NodeId,
    },
    /// It lacks too many entries.
    #[error("node {node} has not caught up{}; try again when it has", match behind {
        Some(behind) => format!(": it lacks {behind} entries"),
        None => String::new(),
    })]
    Behind {
        /// The node.
        node: NodeId,
        /// How many entries it lacks, if that is known.
        behind: Option<u64>,
    },
    /// There are as many voters as there should be.
    #[error("there are {voters} voters, which is all that this cluster needs; demote another one first")]
    EnoughVoters {
        /// How many there are.
        voters: usize,
    },
    /// Only a voter can lead.
    #[error("node {node} does not vote, so it can't lead; promote it first")]
    NotAVoter {
        /// The node.
        node: NodeId,
    },
    /// There is no other voter that could lead.
    #[error("no other voter answers, so nobody can take the leadership over; start one first")]
    NoHeir,
}

/// What became of a change that was asked of a supposed leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ChangeAnswer {
    Done,
    Refused(ChangeError),
    /// Try again: another node leads, or another change is on its way.
    NotNow,
}

/// One change of the membership, or of its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `by` votes in the place of `gone`, which stays as a learner or leaves.
    Replace { gone: NodeId, by: NodeId, keep: bool },
    /// The node leaves.
    Remove { node: NodeId },
    /// These learners vote.
    Promote { nodes: BTreeSet<NodeId> },
    /// The voter becomes a learner; `hold`: until somebody promotes it.
    Demote { node: NodeId, hold: bool },
    /// The learner stays one until somebody promotes it.
    Hold { node: NodeId },
    /// Another node leads.
    HandOver { to: NodeId },
}

impl Step {
    /// Who votes when it is done.
    pub(super) fn voters_after(&self, facts: &Facts) -> BTreeSet<NodeId> {
        let mut voters = facts.voters();
        match self {
            Self::Replace { gone, by, .. } => {
                voters.remove(gone);
                voters.insert(*by);
            }
            Self::Remove { node } | Self::Demote { node, .. } => {
                voters.remove(node);
            }
            Self::Promote { nodes } => voters.extend(nodes),
            Self::Hold { .. } | Self::HandOver { .. } => {}
        }
        voters
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |id: &NodeId| if cfg!(test) { id.0.to_string() } else { id.to_string() };
        match self {
            Self::Replace { gone, by, keep: true } => write!(f, "replace {} by {}", short(gone), short(by)),
            Self::Replace { gone, by, keep: false } => write!(f, "remove {} for {}", short(gone), short(by)),
            Self::Remove { node } => write!(f, "remove {}", short(node)),
            Self::Promote { nodes } => {
                write!(f, "promote {}", nodes.iter().map(short).collect::<Vec<_>>().join(", "))
            }
            Self::Demote { node, hold: false } => write!(f, "demote {}", short(node)),
            Self::Demote { node, hold: true } => write!(f, "demote and hold {}", short(node)),
            Self::Hold { node } => write!(f, "hold {}", short(node)),
            Self::HandOver { to } => write!(f, "hand over to {}", short(to)),
        }
    }
}

/// What to do for a change that was asked for; `None`: it is so already.
///
/// A leader that is to leave or lose its vote hands over first; whoever asked then asks its heir.
pub(super) fn plan(change: MemberChange, facts: &Facts, most: VotersMax) -> Result<Option<Step>, ChangeError> {
    match change {
        MemberChange::Remove { node, force } => remove(node, force, facts).map(Some),
        MemberChange::Promote { node } => promote(node, facts, most),
        MemberChange::Demote { node } => demote(node, facts).map(Some),
        MemberChange::Transfer { to } => transfer(to, facts),
    }
}

fn remove(node: NodeId, force: bool, facts: &Facts) -> Result<Step, ChangeError> {
    let member = facts.members.get(&node).ok_or(ChangeError::NotAMember { node })?;
    if member.answers() && !force {
        return Err(ChangeError::StillUp { node });
    }
    if node == facts.own {
        return abdication(facts);
    }
    let step = match facts.spares().find(|spare| *spare != node) {
        Some(by) if member.voter => Step::Replace { gone: node, by, keep: false },
        _ => Step::Remove { node },
    };
    quorate(node, step, facts)
}

fn demote(node: NodeId, facts: &Facts) -> Result<Step, ChangeError> {
    let member = facts.members.get(&node).ok_or(ChangeError::NotAMember { node })?;
    if !member.voter {
        return Ok(Step::Hold { node });
    }
    if node == facts.own {
        return abdication(facts);
    }
    quorate(node, Step::Demote { node, hold: true }, facts)
}

/// Whoever leads hands over before it leaves or loses its vote.
fn abdication(facts: &Facts) -> Result<Step, ChangeError> {
    let alone =
        if facts.voters().len() == 1 { ChangeError::LastVoter { node: facts.own } } else { ChangeError::NoHeir };
    facts.heir().map(|to| Step::HandOver { to }).ok_or(alone)
}

fn quorate(node: NodeId, step: Step, facts: &Facts) -> Result<Step, ChangeError> {
    let after = step.voters_after(facts);
    if after.is_empty() {
        return Err(ChangeError::LastVoter { node });
    }
    if !facts.is_quorate(&after) {
        return Err(ChangeError::QuorumAtRisk { voters: after.len(), answering: facts.answering(&after) });
    }
    Ok(step)
}

fn promote(node: NodeId, facts: &Facts, most: VotersMax) -> Result<Option<Step>, ChangeError> {
    let member = facts.members.get(&node).ok_or(ChangeError::NotAMember { node })?;
    if member.voter {
        return Ok(None);
    }
    able(node, facts)?;
    let voters = facts.voters();
    let spares = facts.spares().chain([node]).collect::<BTreeSet<_>>();
    if voters.len() < voter_target(voters.len() + spares.len(), most) {
        return Ok(Some(Step::Promote { nodes: BTreeSet::from([node]) }));
    }
    let away = facts.members.iter().find(|(_, member)| member.voter && !member.answers());
    match away {
        Some((gone, _)) => quorate(*gone, Step::Replace { gone: *gone, by: node, keep: true }, facts).map(Some),
        None => Err(ChangeError::EnoughVoters { voters: voters.len() }),
    }
}

fn transfer(to: Option<NodeId>, facts: &Facts) -> Result<Option<Step>, ChangeError> {
    let Some(to) = to else {
        return facts.heir().map(|to| Some(Step::HandOver { to })).ok_or(ChangeError::NoHeir);
    };
    let member = facts.members.get(&to).ok_or(ChangeError::NotAMember { node: to })?;
    if to == facts.own {
        return Ok(None);
    }
    if !member.voter {
        return Err(ChangeError::NotAVoter { node: to });
    }
    able(to, facts)?;
    Ok(Some(Step::HandOver { to }))
}

/// Whether the node is there and has what the others have.
fn able(node: NodeId, facts: &Facts) -> Result<(), ChangeError> {
    let Some(member) = facts.members.get(&node) else { return Err(ChangeError::NotAMember { node }) };
    if !member.answers() {
        return Err(ChangeError::Silent { node });
    }
    if !member.has_caught_up() {
        return Err(ChangeError::Behind { node, behind: member.behind });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::facts::facts;
    use super::*;

    fn planned(change: MemberChange, members: &str) -> String {
        match plan(change, &facts(members), VotersMax::default()) {
            Ok(step) => step.map_or("-".to_owned(), |step| step.to_string()),
            Err(error) => format!("{error:?}").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn a_removal_never_costs_the_quorum() {
        let remove = |node, force| MemberChange::Remove { node: NodeId(node), force };
        for (node, force, members, expected) in [
            (3, false, "v v v9", "remove 3"),
            (3, false, "v v v", "StillUp"),
            (3, true, "v v v", "remove 3"),
            (2, true, "v v v9", "QuorumAtRisk"),
            (3, false, "v v v9 l", "remove 3 for 4"),
            (2, true, "v v v9 l", "remove 2 for 4"),
            (2, true, "v v", "remove 2"),
            (2, false, "v l9", "remove 2"),
            (9, false, "v v v", "NotAMember"),
            (1, true, "v v v", "hand over to 2"),
            (1, true, "v", "LastVoter"),
            (1, true, "v v9", "NoHeir"),
            (1, true, "v l", "LastVoter"),
        ] {
            assert_eq!(planned(remove(node, force), members), expected, "remove {node} of {members}");
        }
    }

    #[test]
    fn votes_are_given_where_they_are_needed_and_taken_where_they_can_be_spared() {
        let promote = |node| MemberChange::Promote { node: NodeId(node) };
        let demote = |node| MemberChange::Demote { node: NodeId(node) };
        for (change, members, expected) in [
            (promote(2), "v l", "promote 2"),
            (promote(2), "v v", "-"),
            (promote(3), "v v h", "promote 3"),
            (promote(4), "v v v h", "EnoughVoters"),
            (promote(4), "v v v9 h", "replace 3 by 4"),
            (promote(4), "v v v h l", "promote 4"),
            (promote(3), "v v b", "Behind"),
            (promote(3), "v v l9", "Silent"),
            (promote(4), "v v v", "NotAMember"),
            (demote(3), "v v v", "demote and hold 3"),
            (demote(3), "v v v9", "demote and hold 3"),
            (demote(2), "v v v9", "QuorumAtRisk"),
            (demote(1), "v v v", "hand over to 2"),
            (demote(1), "v l", "LastVoter"),
            (demote(2), "v l", "hold 2"),
        ] {
            assert_eq!(planned(change, members), expected, "{change:?} of {members}");
        }
    }

    #[test]
    fn nobody_is_promoted_beyond_the_most_voters() {
        let promote = MemberChange::Promote { node: NodeId(4) };
        let members = facts("v v v h l");
        assert_eq!(plan(promote, &members, VotersMax::Three), Err(ChangeError::EnoughVoters { voters: 3 }));
        assert!(plan(promote, &members, VotersMax::Five).is_ok());
    }

    #[test]
    fn the_leadership_goes_to_a_voter_that_answers() {
        let to = |to: Option<u64>| MemberChange::Transfer { to: to.map(NodeId) };
        for (change, members, expected) in [
            (to(None), "v v v", "hand over to 2"),
            (to(None), "v v9 v", "hand over to 3"),
            (to(None), "v l", "NoHeir"),
            (to(Some(3)), "v v v", "hand over to 3"),
            (to(Some(1)), "v v v", "-"),
            (to(Some(3)), "v v v9", "Silent"),
            (to(Some(3)), "v v l", "NotAVoter"),
            (to(Some(7)), "v v v", "NotAMember"),
        ] {
            assert_eq!(planned(change, members), expected, "{change:?} of {members}");
        }
    }
}
