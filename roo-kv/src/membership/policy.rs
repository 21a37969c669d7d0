//! What the leader does by itself. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use super::facts::{Facts, MemberFacts};
use super::plan::Step;
use crate::config::VotersMax;
use crate::id::NodeId;

/// A voter that was silent for this long gives its vote to a learner, if there is one that has caught up.
const REPLACE_AFTER: Duration = Duration::from_secs(30);

/// Fewer voters than these are never left behind by a removal that nobody asked for. Of three of which one is dead any two
/// can write, also the returned one and either of the others; of the two that would be left only both.
const VOTERS_LEFT_MIN: usize = 3;

/// How long silence is borne.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// Then a member is removed; `None`: never.
    pub(super) dead_after: Option<Duration>,
}

impl Grace {
    fn replace_after(self) -> Duration {
        self.dead_after.map_or(REPLACE_AFTER, |dead| dead.min(REPLACE_AFTER))
    }

    fn is_gone(self, member: &MemberFacts) -> bool {
        member.displaced || member.is_silent_for(self.replace_after())
    }

    fn is_dead(self, member: &MemberFacts) -> bool {
        self.dead_after.is_some_and(|dead| member.displaced || member.is_silent_for(dead))
    }
}

/// How many of so many members vote: an odd number from three on, as an even one survives no more losses. Of two, both:
/// with one, the loss of its disk would lose acknowledged writes.
pub(super) fn voter_target(members: usize, most: VotersMax) -> usize {
    match members {
        0..=2 => members,
        3..=4 => 3,
        5..=6 => most.count().min(5),
        _ => most.count(),
    }
}

/// The next step, if any is due and safe.
pub(super) fn next_step(facts: &Facts, grace: Grace, most: VotersMax) -> Option<Step> {
    if !facts.is_quorate(&facts.voters()) {
        return None;
    }
    replacement(facts, grace).or_else(|| removal(facts, grace)).or_else(|| resizing(facts, most))
}

/// A learner votes in the place of a voter that is gone. Their number stays, so this needs no long grace.
fn replacement(facts: &Facts, grace: Grace) -> Option<Step> {
    let by = facts.spares().next()?;
    let gone = silent(facts, |member| member.voter && grace.is_gone(member))?;
    let mut after = facts.voters();
    after.remove(&gone);
    after.insert(by);
    facts.is_quorate(&after).then_some(Step::Replace { gone, by, keep: true })
}

/// A member that is dead leaves, if enough vote without it, and those can commit.
fn removal(facts: &Facts, grace: Grace) -> Option<Step> {
    let can_spare_voter = facts.voters().len() > VOTERS_LEFT_MIN;
    let node = silent(facts, |member| grace.is_dead(member) && (can_spare_voter || !member.voter))?;
    let mut after = facts.voters();
    after.remove(&node);
    facts.is_quorate(&after).then_some(Step::Remove { node })
}

/// More or fewer voters, to have the number that suits the members. Learners that are away don't count: they would
/// leave an even number of voters behind.
fn resizing(facts: &Facts, most: VotersMax) -> Option<Step> {
    let voters = facts.voters();
    let spares: BTreeSet<NodeId> = facts.spares().collect();
    let target = voter_target(voters.len() + spares.len(), most);
    if voters.len() < target {
        return Some(Step::Promote { nodes: spares.into_iter().take(target - voters.len()).collect() });
    }
    if voters.len() == target {
        return None;
    }
    // Who is away is missed least.
    let surplus = voters.iter().filter(|id| **id != facts.own);
    let node = *surplus.min_by_key(|id| (facts.members.get(id).is_some_and(MemberFacts::answers), Reverse(**id)))?;
    let mut after = voters.clone();
    after.remove(&node);
    facts.is_quorate(&after).then_some(Step::Demote { node, hold: false })
}

/// The first other member of which this holds, voters first.
fn silent(facts: &Facts, holds: impl Fn(&MemberFacts) -> bool) -> Option<NodeId> {
    let matching = facts.members.iter().filter(|(id, member)| **id != facts.own && !member.answers() && holds(member));
    matching.min_by_key(|(id, member)| (!member.voter, **id)).map(|(id, _)| *id)
}

#[cfg(test)]
#[path = "policy_test.rs"]
mod tests;
