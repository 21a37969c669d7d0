//! What a node does next towards a cluster, from what it saw. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{ClusterId, NodeId};
use crate::identity::Standing;
use crate::peer::StandingForm;

/// A name that leads to this node alone must do so for this many start delays. Where nodes start together, the name
/// has the address of the first before those of the others, and two that believed this would found two clusters.
const ALONE_START_DELAYS: u32 = 4;

/// For how long the addresses must have stayed the same to be believed; `size` is how many nodes they make.
pub(crate) fn stability_needed(by_name: bool, size: usize, start_delay: Duration) -> Duration {
    if by_name && size <= 1 { start_delay.saturating_mul(ALONE_START_DELAYS) } else { start_delay }
}

/// How many nodes there are meant to be, where a list or a name shows so many and somebody said how many to expect.
pub(crate) fn size_meant(shown: usize, expected: usize) -> usize {
    shown.max(expected).max(1)
}

/// A node that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) standing: StandingForm,
    pub(crate) address: String,
}

/// What one look around showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// The other nodes that answered.
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    /// How many nodes there are meant to be, this one included: see [`size_meant`]. Too high is safe, too low is not.
    pub(crate) size: usize,
    /// Who the others are has stayed the same for as long as [`stability_needed`] says.
    pub(crate) settled: bool,
    /// The lowest of those that answer founds; else any of them that may, since who may is not known of the others.
    pub(crate) by_turn: bool,
}

impl Survey {
    /// Nodes needed to found a cluster.
    pub(crate) fn majority(&self) -> usize {
        self.size / 2 + 1
    }
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing but looking again; the text says what is waited for.
    Wait(String),
    /// Ask this node to be taken in.
    Join { cluster: ClusterId, via: String },
    /// Claim to found a cluster.
    BeginFounding,
    /// Ask these for their grant and found the cluster if a majority gives it.
    AskGrants(Vec<(NodeId, String)>),
    /// Let another one found the cluster.
    Yield,
    /// The grant is void.
    Release,
}

/// Decides.
pub(crate) fn decide(own: NodeId, standing: &Standing, survey: &Survey) -> Decision {
    match standing {
        Standing::Member { .. } => Decision::Wait("the cluster's leader".to_owned()),
        Standing::Superseded { .. } => Decision::Wait("its data directory to be emptied".to_owned()),
        Standing::Promised { initiator, cluster, .. } => promised(*initiator, *cluster, survey),
        Standing::Founding { .. } => founding(own, survey),
        Standing::Pristine => pristine(own, survey),
    }
}

fn pristine(own: NodeId, survey: &Survey) -> Decision {
    if let Some(join) = cluster_to_join(survey, None) {
        return join;
    }
    let founds = |seen: &Seen| matches!(seen.standing, StandingForm::Founding { .. } | StandingForm::Promised { .. });
    if survey.seen.values().any(founds) {
        return Decision::Wait("another node, which is founding the cluster".to_owned());
    }
    let present = survey.seen.len() + 1;
    if present < survey.majority() {
        return Decision::Wait(format!(
            "more nodes: {present} of {} answer, {} are needed to found a cluster",
            survey.size,
            survey.majority()
        ));
    }
    if !survey.settled {
        return Decision::Wait("the start delay to pass".to_owned());
    }
    match survey.seen.keys().next() {
        Some(lowest) if survey.by_turn && *lowest < own => {
            Decision::Wait(format!("node {lowest} to found the cluster"))
        }
        _ => Decision::BeginFounding,
    }
}

fn founding(own: NodeId, survey: &Survey) -> Decision {
    // A founded cluster or a claim of a lower id takes precedence; giving up is safe because nothing was founded.
    let outranked = survey.seen.iter().any(|(id, seen)| match seen.standing {
        StandingForm::Member { .. } => true,
        StandingForm::Founding { .. } => *id < own,
        StandingForm::Pristine | StandingForm::Promised { .. } | StandingForm::Superseded { .. } => false,
    });
    if outranked {
        return Decision::Yield;
    }
    // The set may have shrunk since the claim, or the process may have started anew.
    if !survey.settled {
        return Decision::Wait("the start delay to pass".to_owned());
    }
    let candidates = survey.seen.iter().filter(|(_, seen)| match seen.standing {
        StandingForm::Pristine => true,
        StandingForm::Promised { initiator, .. } => initiator == own,
        StandingForm::Founding { .. } | StandingForm::Member { .. } | StandingForm::Superseded { .. } => false,
    });
    let candidates: Vec<_> = candidates.map(|(id, seen)| (*id, seen.address.clone())).collect();
    if candidates.len() + 1 < survey.majority() {
        return Decision::Wait(format!(
            "the grants of {} nodes to found the cluster, {} can give theirs now",
            survey.majority(),
            candidates.len() + 1
        ));
    }
    Decision::AskGrants(candidates)
}

fn promised(initiator: NodeId, cluster: ClusterId, survey: &Survey) -> Decision {
    match survey.seen.get(&initiator).map(|seen| seen.standing) {
        Some(StandingForm::Founding { cluster: now } | StandingForm::Member { cluster: now }) if now == cluster => {}
        Some(_) => return Decision::Release,
        // It may have founded the cluster with this node and be elsewhere now, so its silence ends nothing.
        None => {}
    }
    cluster_to_join(survey, Some(cluster)).unwrap_or_else(|| {
        let lost = if survey.seen.contains_key(&initiator) {
            ""
        } else {
            "; should its disk be lost, empty the data directory of this node, which holds nothing yet"
        };
        Decision::Wait(format!("node {initiator}, which is founding the cluster with this node{lost}"))
    })
}

fn cluster_to_join(survey: &Survey, only: Option<ClusterId>) -> Option<Decision> {
    survey.seen.values().find_map(|seen| match seen.standing {
        StandingForm::Member { cluster } if only.is_none_or(|only| only == cluster) => {
            Some(Decision::Join { cluster, via: seen.address.clone() })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: ClusterId = ClusterId(100);
    const Y: ClusterId = ClusterId(101);

    fn survey(size: usize, seen: &[(u64, StandingForm)]) -> Survey {
        let seen = seen
            .iter()
            .map(|(id, standing)| (NodeId(*id), Seen { standing: *standing, address: format!("n{id}:1") }))
            .collect();
        Survey { seen, size, settled: true, by_turn: true }
    }

    fn promised_to(initiator: u64, cluster: ClusterId) -> Standing {
        Standing::Promised { initiator: NodeId(initiator), cluster, attempt: 1, address: String::new() }
    }

    const FREE: StandingForm = StandingForm::Pristine;
    const FOUNDING: Standing = Standing::Founding { cluster: X, attempt: 1 };

    #[test]
    fn a_free_node_founds_only_as_the_lowest_of_a_majority() {
        let me = NodeId(5);
        let decide = |survey: &Survey| decide(me, &Standing::Pristine, survey);
        assert_eq!(decide(&survey(1, &[])), Decision::BeginFounding);
        assert!(matches!(decide(&survey(3, &[])), Decision::Wait(_)));
        assert!(matches!(decide(&survey(2, &[])), Decision::Wait(_)));
        assert_eq!(decide(&survey(3, &[(9, FREE)])), Decision::BeginFounding);
        assert!(matches!(decide(&survey(3, &[(4, FREE)])), Decision::Wait(_)));
        let early = Survey { settled: false, ..survey(3, &[(9, FREE)]) };
        assert!(matches!(decide(&early), Decision::Wait(_)));
    }

    #[test]
    fn a_free_node_joins_any_cluster_and_waits_for_one_in_the_making() {
        let me = NodeId(5);
        let there = survey(3, &[(9, FREE), (7, StandingForm::Member { cluster: X })]);
        let join = Decision::Join { cluster: X, via: "n7:1".to_owned() };
        assert_eq!(decide(me, &Standing::Pristine, &there), join);
        let making = survey(3, &[(9, StandingForm::Founding { cluster: X })]);
        assert!(matches!(decide(me, &Standing::Pristine, &making), Decision::Wait(_)));
    }

    #[test]
    fn a_founder_asks_those_who_are_free_and_yields_to_a_lower_one() {
        let me = NodeId(5);
        let promised = |initiator| StandingForm::Promised { initiator: NodeId(initiator), cluster: X };
        let both = survey(5, &[(6, FREE), (7, promised(5)), (8, promised(9))]);
        let expected = vec![(NodeId(6), "n6:1".to_owned()), (NodeId(7), "n7:1".to_owned())];
        assert_eq!(decide(me, &FOUNDING, &both), Decision::AskGrants(expected));
        let rival = |id| survey(3, &[(id, StandingForm::Founding { cluster: Y })]);
        assert_eq!(decide(me, &FOUNDING, &rival(4)), Decision::Yield);
        assert!(matches!(decide(me, &FOUNDING, &rival(6)), Decision::Wait(_)));
        let founded = survey(3, &[(6, StandingForm::Member { cluster: Y })]);
        assert_eq!(decide(me, &FOUNDING, &founded), Decision::Yield);
    }

    #[test]
    fn a_claim_is_not_carried_out_with_addresses_that_just_changed() {
        let shrunk = Survey { settled: false, ..survey(1, &[]) };
        assert!(matches!(decide(NodeId(5), &FOUNDING, &shrunk), Decision::Wait(_)));
        assert_eq!(decide(NodeId(5), &FOUNDING, &survey(1, &[])), Decision::AskGrants(vec![]));
    }

    #[test]
    fn a_name_that_leads_to_one_node_is_believed_later() {
        let delay = Duration::from_secs(3);
        assert_eq!(stability_needed(true, 1, delay), delay * 4);
        assert_eq!(stability_needed(true, 2, delay), delay);
        assert_eq!(stability_needed(false, 1, delay), delay);
        assert_eq!(stability_needed(true, 1, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn with_an_expectation_a_minority_founds_nothing_whatever_it_is_shown() {
        let me = NodeId(5);
        assert_eq!([(0, 0), (1, 0), (1, 3), (5, 3)].map(|(shown, expected)| size_meant(shown, expected)), [1, 1, 3, 5]);
        for standing in [Standing::Pristine, FOUNDING] {
            assert!(matches!(decide(me, &standing, &survey(size_meant(1, 3), &[])), Decision::Wait(_)));
        }
        let Decision::Wait(what) = decide(me, &Standing::Pristine, &survey(size_meant(2, 5), &[(6, FREE)])) else {
            panic!("it does not wait");
        };
        assert_eq!(what, "more nodes: 2 of 5 answer, 3 are needed to found a cluster");
        assert_eq!(decide(me, &Standing::Pristine, &survey(size_meant(1, 3), &[(6, FREE)])), Decision::BeginFounding);
        // Whoever meets a cluster joins it all the same.
        let there = survey(size_meant(1, 5), &[(7, StandingForm::Member { cluster: X })]);
        assert!(matches!(decide(me, &Standing::Pristine, &there), Decision::Join { .. }));
    }

    #[test]
    fn a_promise_is_kept_until_its_initiator_says_otherwise() {
        let me = NodeId(5);
        let mine = promised_to(3, X);
        let other_cluster = survey(3, &[(7, StandingForm::Member { cluster: Y })]);
        assert!(matches!(decide(me, &mine, &other_cluster), Decision::Wait(_)));
        let busy = survey(3, &[(3, StandingForm::Founding { cluster: X })]);
        assert!(matches!(decide(me, &mine, &busy), Decision::Wait(_)));
        assert_eq!(decide(me, &mine, &survey(3, &[(3, FREE)])), Decision::Release);
        let again = survey(3, &[(3, StandingForm::Founding { cluster: Y })]);
        assert_eq!(decide(me, &mine, &again), Decision::Release);
        let gone = survey(3, &[(8, FREE)]);
        assert!(matches!(decide(me, &mine, &gone), Decision::Wait(what) if what.contains("empty the data directory")));
        let founded = survey(3, &[(3, StandingForm::Member { cluster: X })]);
        assert!(matches!(decide(me, &mine, &founded), Decision::Join { cluster: X, .. }));
    }
}
