//! Whether this node belongs to the cluster, as the leader says, and what follows if it does not. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belonging {
    /// It is a member.
    Member,
    /// It was away, and was removed for that: it asks to be taken in again.
    JoinAgain,
    /// Somebody removed it while it was there: it stays out until it is started anew.
    StayOut,
}

/// What the leader has said so far.
#[derive(Debug, Default)]
pub(crate) struct Words {
    last_member: Option<Instant>,
    stays_out: bool,
}

impl Words {
    /// The leader said whether this node is a member. `dead_after`: how long a member may be silent before it is removed.
    ///
    /// Whoever is removed for its silence has not talked to the leader for that long. One that has, was removed by hand.
    pub(crate) fn hear(&mut self, member: bool, dead_after: Option<Duration>, now: Instant) -> Belonging {
        if member {
            *self = Self { last_member: Some(now), stays_out: false };
            return Belonging::Member;
        }
        let lately = |at: Instant| dead_after.is_none_or(|silence| now.duration_since(at) < silence);
        self.stays_out |= self.last_member.is_some_and(lately);
        if self.stays_out { Belonging::StayOut } else { Belonging::JoinAgain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Option<Duration> = Some(Duration::from_secs(600));

    #[test]
    fn one_that_was_away_joins_again_and_one_that_was_removed_by_hand_stays_out() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut restarted = Words::default();
        assert_eq!(restarted.hear(false, DEAD, at(0)), Belonging::JoinAgain);
        assert_eq!(restarted.hear(true, DEAD, at(1)), Belonging::Member);

        let mut cut_off = Words::default();
        assert_eq!(cut_off.hear(true, DEAD, at(0)), Belonging::Member);
        assert_eq!(cut_off.hear(false, DEAD, at(600)), Belonging::JoinAgain);

        let mut by_hand = Words::default();
        assert_eq!(by_hand.hear(true, DEAD, at(0)), Belonging::Member);
        assert_eq!(by_hand.hear(false, DEAD, at(2)), Belonging::StayOut);
        assert_eq!(by_hand.hear(false, DEAD, at(10_000)), Belonging::StayOut, "however long it runs");

        let mut never = Words::default();
        assert_eq!(never.hear(true, None, at(0)), Belonging::Member);
        assert_eq!(never.hear(false, None, at(10_000)), Belonging::StayOut, "nobody else removes it");
    }
}
