//! Members as a line of text, and what the leader, node 1, does.

use super::*;
use crate::membership::facts::facts;

const GRACE: Grace = Grace { dead_after: Some(Duration::from_secs(600)) };
const MOSTS: [VotersMax; 3] = [VotersMax::Three, VotersMax::Five, VotersMax::Seven];
const NEVER: Grace = Grace { dead_after: None };

fn step(text: &str, grace: Grace) -> String {
    step_of(text, grace, VotersMax::Seven)
}

fn step_of(text: &str, grace: Grace, most: VotersMax) -> String {
    next_step(&facts(text), grace, most).map_or("-".to_owned(), |step| step.to_string())
}

#[test]
fn voters_are_odd_from_three_on_and_not_more_than_is_said() {
    for (most, expected) in [
        (VotersMax::Three, [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]),
        (VotersMax::Five, [0, 1, 2, 3, 3, 5, 5, 5, 5, 5]),
        (VotersMax::Seven, [0, 1, 2, 3, 3, 5, 5, 7, 7, 7]),
    ] {
        let targets: Vec<usize> = (0..10).map(|members| voter_target(members, most)).collect();
        assert_eq!(targets, expected, "{most:?}");
    }
}

#[test]
fn voters_that_are_too_many_for_the_setting_follow_one_by_one() {
    for (members, expected) in
        [("v v v l l l l", "-"), ("v v l l", "promote 3"), ("v v v v v", "demote 5"), ("v v v v l", "demote 4")]
    {
        assert_eq!(step_of(members, GRACE, VotersMax::Three), expected, "{members}");
    }
}

#[test]
fn the_leader_heals_the_membership_and_risks_no_quorum() {
    for (members, expected) in [
        // Growing: to an odd number at once, with learners that are there and have caught up.
        ("v", "-"),
        ("v l", "promote 2"),
        ("v v l", "promote 3"),
        ("v v v l", "-"),
        ("v v v l l", "promote 4, 5"),
        ("v v v l b", "-"),
        ("v v v l l6", "-"),
        ("v v v h l", "-"),
        ("v v v v v l l", "promote 6, 7"),
        ("v v v v v v v l l", "-"),
        ("v b", "-"),
        // A voter that is gone gives its vote to a learner.
        ("v v v29 l", "-"),
        ("v v v30 l", "replace 3 by 4"),
        ("v v v30 b", "-"),
        ("v v v30 h", "-"),
        ("v v v30 l7", "-"),
        ("v v vx l", "replace 3 by 4"),
        ("v v v v40 v50 l", "replace 4 by 6"),
        // Without a quorum nothing is done; a leader that has none does not even ask.
        ("v v30 v30", "-"),
        ("v v700", "-"),
        ("v v700 v700 l", "-"),
        ("v v v700 v700 v700 l", "-"),
        // The dead leave when the grace is over, one at a time.
        ("v v v v v599", "-"),
        ("v v v v v600", "remove 5"),
        ("v v v v600", "remove 4"),
        ("v v v v700 v700", "remove 4"),
        ("v v v v700", "remove 4"),
        ("v v v l600 l700", "remove 4"),
        ("v v v b599", "-"),
        ("v v v v vx", "remove 5"),
        ("v v v lx", "remove 4"),
        // The third voter keeps its place until another takes it, and so holds nothing up.
        ("v v v600", "-"),
        ("v v vx", "-"),
        ("v v vx b", "-"),
        ("v v v600 l600", "remove 4"),
        ("v v v600 h", "-"),
        ("v v v600 b l", "replace 3 by 5"),
        // Even numbers shrink: the one that is away first, else the last.
        ("v v v v", "demote 4"),
        ("v v6 v v", "demote 2"),
        ("v v v v h", "demote 4"),
        ("v v v v l", "promote 5"),
    ] {
        assert_eq!(step(members, GRACE), expected, "{members}");
    }
}

#[test]
fn without_a_grace_nobody_is_removed_but_votes_still_move() {
    assert_eq!(step("v v v9999", NEVER), "-");
    assert_eq!(step("v v vx", NEVER), "-");
    assert_eq!(step("v v v9999 l", NEVER), "replace 3 by 4");
}

#[test]
fn a_short_grace_shortens_the_time_until_a_vote_moves() {
    let short = Grace { dead_after: Some(Duration::from_secs(7)) };
    assert_eq!(step("v v v7 l", short), "replace 3 by 4");
    assert_eq!(step("v v v l7", short), "remove 4");
}

#[test]
fn whatever_the_leader_does_leaves_a_quorum_that_answers() {
    let kinds = ["v", "v6", "v30", "v600", "vx", "l", "l600", "b", "h"];
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let others: Vec<&str> = (0..rng.usize(0..9)).map(|_| kinds[rng.usize(0..kinds.len())]).collect();
        let text = format!("v {}", others.join(" "));
        let before = facts(&text);
        if !before.is_quorate(&before.voters()) {
            continue;
        }
        if let Some(step) = next_step(&before, GRACE, VotersMax::Seven) {
            let after = step.voters_after(&before);
            assert!(before.is_quorate(&after), "{text}: {step}");
            assert!(after.contains(&NodeId(1)), "{text}: {step}");
        }
    }
}

#[test]
fn a_cluster_left_alone_comes_to_rest_with_an_odd_number_of_voters() {
    let texts = ["v v v600", "v l l l l l l l l", "v v v v600 v600 l l", "v v v v v v v v v", "v v v600 v600 v v v600"];
    for (text, most) in texts.iter().flat_map(|text| MOSTS.map(|most| (text, most))) {
        let mut now = facts(text);
        for round in 0.. {
            assert!(round < 20, "{text} never comes to rest");
            let Some(step) = next_step(&now, GRACE, most) else { break };
            let voters = step.voters_after(&now);
            if let Step::Remove { node } = step {
                now.members.remove(&node);
            }
            for (id, member) in &mut now.members {
                member.voter = voters.contains(id);
            }
        }
        let voters = now.voters().len();
        assert!(voters % 2 == 1 && voters == voter_target(now.members.len(), most), "{text} ends with {voters} voters");
    }
}
