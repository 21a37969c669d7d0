//! Which of several CAs is asked for a name: pure decisions.

use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::authority::AcmeConfig;
use crate::cas::Cas;
use crate::ledger::Ledgers;

/// What follows for a name that needs a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// Ask this one.
    Ask(&'a AcmeConfig),
    /// None of them before this time.
    Wait(Timestamp),
}

/// The first CA that is not held back: for this name by what it answered before, for all by a pause. One that pauses is
/// waited for until it has failed a few times in a row. One at which an order has `begun` comes before the others.
pub(crate) fn choose<'a>(
    cas: &'a Cas,
    name: &str,
    attempts: Option<&Attempts>,
    ledgers: &Ledgers,
    begun: Option<&str>,
    now: Timestamp,
) -> Choice<'a> {
    let has_begun = |config: &&AcmeConfig| begun == Some(config.directory.as_str());
    let others = cas.for_name(name).filter(|config| !has_begun(config));
    let mut soonest = None;
    for config in cas.for_name(name).filter(has_begun).chain(others) {
        let held = attempts.and_then(|attempts| attempts.held_until(&config.directory)).filter(|until| *until > now);
        let ledger = ledgers.get(&config.directory).filter(|ledger| ledger.paused_until > now);
        let paused = ledger.map(|ledger| ledger.paused_until);
        let Some(until) = held.max(paused) else { return Choice::Ask(config) };
        soonest = Some(soonest.map_or(until, |soonest: Timestamp| soonest.min(until)));
        if held.is_none() && ledger.is_some_and(|ledger| ledger.failures < TRIES) {
            break;
        }
    }
    Choice::Wait(soonest.unwrap_or(now))
}

/// So often a CA is tried before the next one is.
pub(crate) const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ledger::Ledger;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    fn ca(name: &str) -> AcmeConfig {
        AcmeConfig::at(&format!("https://{name}.example/d"))
    }

    /// Which CA is asked, or how long none is. `held` and `paused` say until when, and the pause after how many
    /// failures.
    fn chosen(held: [i64; 2], paused: [(i64, u32); 2], begun: Option<&str>) -> Result<String, i64> {
        let cas = Cas::new(ca("a"), [ca("b")]);
        let mut attempts = Attempts::at_the_beginning(at(0));
        let mut ledgers = Ledgers::new();
        for ((config, held), (until, failures)) in cas.iter().zip(held).zip(paused) {
            attempts.hold(&config.directory, at(held));
            ledgers.insert(config.directory.clone(), Ledger { failures, paused_until: at(until) });
        }
        let begun = begun.map(|name| ca(name).directory);
        match choose(&cas, "shop.example", Some(&attempts), &ledgers, begun.as_deref(), at(0)) {
            Choice::Ask(config) => Ok(config.directory["https://".len()..][..1].to_owned()),
            Choice::Wait(until) => Err(until.as_second() - NOW),
        }
    }

    #[test]
    fn the_first_that_is_well_is_asked() {
        let (well, is) = ([(0, 0), (0, 0)], |name: &str| Ok(name.to_owned()));
        assert_eq!(chosen([0, 0], well, None), is("a"));
        assert_eq!(chosen([5, 0], well, None), is("b"), "this name was sent away");
        assert_eq!(chosen([5, 0], [(0, 9), (0, 0)], None), is("b"));
        assert_eq!(chosen([0, 0], [(0, 9), (0, 0)], None), is("a"), "its pause is over");
        assert_eq!(chosen([9, 5], well, None), Err(5));
        assert_eq!(chosen([0, 0], [(7, 2), (0, 0)], None), Err(7), "it gets a few tries");
        assert_eq!(chosen([0, 0], [(7, 3), (0, 0)], None), is("b"));
        assert_eq!(chosen([0, 0], [(7, 3), (9, 3)], None), Err(7));
        assert_eq!(chosen([0, 6], [(7, 3), (0, 0)], None), Err(6));
        assert_eq!(chosen([0, 0], well, Some("b")), is("b"), "what has begun is finished");
        assert_eq!(chosen([0, 5], well, Some("b")), is("a"));
    }

    #[test]
    fn with_nothing_known_the_first_is_asked() {
        let cas = Cas::from(ca("a"));
        assert_eq!(choose(&cas, "shop.example", None, &Ledgers::new(), None, at(0)), Choice::Ask(&ca("a")));
    }
}
