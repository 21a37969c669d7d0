//! Which of several CAs is asked for a name, and why a name waits: pure decisions.

use std::fmt;

use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::authority::AcmeConfig;
use crate::cas::Cas;
use crate::certificate::Facts;
use crate::ledger::{Ledgers, Purpose, SpentBy};
use crate::renewal::Renewal;

/// A name that needs a certificate, and what is known of it.
pub(crate) struct Seeker<'a> {
    pub(crate) name: &'a str,
    /// Its present certificate.
    pub(crate) facts: Option<&'a Facts>,
    pub(crate) renewal: Option<&'a Renewal>,
    pub(crate) attempts: Option<&'a Attempts>,
    pub(crate) spent: &'a SpentBy,
    /// The CA at which an order has begun.
    pub(crate) begun: Option<&'a str>,
}

/// What follows for a name that needs a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// Ask this one.
    Ask(&'a AcmeConfig, Purpose),
    /// None of them yet.
    Wait(Held),
}

/// Why a name waits, and until when at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) until: Timestamp,
    pub(crate) scope: Scope,
    /// For people: what is waited for.
    pub(crate) why: String,
}

/// Which names wait for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This one.
    Name,
    /// New ones of its registered domain.
    Domain,
    /// All new ones.
    New,
    /// All.
    All,
}

/// The first CA that is not held back: for this name by what it answered before, for all by a pause, or by a limit that
/// would be reached. One that pauses is waited for until it has failed a few times in a row. One at which an order has
/// begun comes before the others, and the order was counted when it began.
pub(crate) fn choose<'a>(cas: &'a Cas, seeker: &Seeker<'_>, ledgers: &Ledgers, now: Timestamp) -> Choice<'a> {
    let has_begun = |config: &&AcmeConfig| seeker.begun == Some(config.directory.as_str());
    let others = cas.for_name(seeker.name).filter(|config| !has_begun(config));
    let mut held: Option<Held> = None;
    for config in cas.for_name(seeker.name).filter(has_begun).chain(others) {
        let purpose = purpose(config, seeker, now);
        let (found, is_waited_for) = match held_at(config, seeker, purpose, ledgers, now) {
            None => return Choice::Ask(config, purpose),
            Some(found) => found,
        };
        held = Some(match held {
            Some(before) => before.or(found),
            None => found,
        });
        if is_waited_for {
            break;
        }
    }
    let nobody = || Held { until: now, scope: Scope::Name, why: "no CA may be told of it".to_owned() };
    Choice::Wait(held.unwrap_or_else(nobody))
}

/// What holds `seeker` back at a CA, and whether that is waited for rather than another CA asked.
fn held_at(
    config: &AcmeConfig,
    seeker: &Seeker<'_>,
    purpose: Purpose,
    ledgers: &Ledgers,
    now: Timestamp,
) -> Option<(Held, bool)> {
    let directory = &config.directory;
    let unknown = crate::Ledger::default();
    let ledger = ledgers.get(directory).unwrap_or(&unknown);
    let sent_away = seeker.attempts.and_then(|attempts| attempts.held_until(directory));
    if let Some(until) = sent_away.filter(|until| *until > now) {
        let why = format!("{directory} has sent it away");
        return Some((Held { until, scope: Scope::Name, why }, false));
    }
    if ledger.paused_until > now {
        let why = format!("{directory} has failed {} times in a row", ledger.failures);
        return Some((Held { until: ledger.paused_until, scope: Scope::All, why }, ledger.failures < TRIES));
    }
    if seeker.begun == Some(directory) {
        return None;
    }
    let spent = seeker.spent.get(directory).copied().unwrap_or_default();
    let reached = ledger.reached(&config.limits, seeker.name, spent, purpose, now)?;
    let scope = match reached.limit {
        "orders" => Scope::New,
        "domain" => Scope::Domain,
        _ => Scope::Name,
    };
    let why = format!("the limit `{}` of {directory} is reached", reached.limit);
    Some((Held { until: reached.until, scope, why }, false))
}

/// What an order for `seeker` is in the eyes of the CA.
fn purpose(config: &AcmeConfig, seeker: &Seeker<'_>, now: Timestamp) -> Purpose {
    let Some(facts) = seeker.facts.filter(|facts| facts.authority == config.directory && facts.not_after > now) else {
        return Purpose::New;
    };
    // Within the window only: Let's Encrypt counts what comes before or after it.
    let advised = seeker.renewal.filter(|renewal| renewal.serial == facts.serial).and_then(|renewal| renewal.window);
    let is_due = advised.is_some_and(|window| window.start <= now && now < window.end);
    if is_due { Purpose::Replacement } else { Purpose::Renewal }
}

impl Held {
    /// What holds as long as both do.
    fn or(self, other: Self) -> Self {
        let (sooner, later) = if self.until <= other.until { (self, other) } else { (other, self) };
        let why = format!("{}; {}", sooner.why, later.why);
        Self { until: sooner.until, scope: sooner.scope.min(later.scope), why }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits until {} at least: {}", self.until, self.why)
    }
}

/// So often a CA is tried before the next one is.
pub(crate) const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ledger::{Ledger, Spent};
    use crate::limits::{Limit, Limits};

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    fn ca(name: &str) -> AcmeConfig {
        let limit = Some(Limit { count: 1, window: std::time::Duration::from_secs(100) });
        let limits = Limits { orders: limit, domain: limit, exact: limit, failures: None };
        AcmeConfig { limits, ..AcmeConfig::at(&format!("https://{name}.example/d")) }
    }

    /// What is known of two CAs: until when each holds the name back, pauses and after how many failures, and when its
    /// bucket of orders and that of the domain are full.
    #[derive(Default, Clone, Copy)]
    struct Known {
        held: [i64; 2],
        paused: [(i64, u32); 2],
        orders: [i64; 2],
        domain: [i64; 2],
        begun: Option<&'static str>,
    }

    impl Known {
        /// Which CA is asked, or how long none is and who else waits for the same.
        fn choice(self) -> Result<String, (i64, Scope)> {
            let cas = Cas::new(ca("a"), [ca("b")]);
            let mut attempts = Attempts::at_the_beginning(at(0));
            let mut ledgers = Ledgers::new();
            for (index, config) in cas.iter().enumerate() {
                attempts.hold(&config.directory, at(self.held[index]));
                let (until, failures) = self.paused[index];
                let domains = [("shop.example".to_owned(), at(self.domain[index]))].into();
                let ledger = Ledger {
                    failures,
                    paused_until: at(until),
                    orders: at(self.orders[index]),
                    domains,
                    ..Ledger::default()
                };
                ledgers.insert(config.directory.clone(), ledger);
            }
            let begun = self.begun.map(|name| ca(name).directory);
            let spent = SpentBy::new();
            let seeker = Seeker { begun: begun.as_deref(), attempts: Some(&attempts), ..newcomer(&spent) };
            match choose(&cas, &seeker, &ledgers, at(0)) {
                Choice::Ask(config, _) => Ok(config.directory["https://".len()..][..1].to_owned()),
                Choice::Wait(held) => Err((held.until.as_second() - NOW, held.scope)),
            }
        }
    }

    fn newcomer(spent: &SpentBy) -> Seeker<'_> {
        Seeker { name: "a.shop.example", facts: None, renewal: None, attempts: None, spent, begun: None }
    }

    #[test]
    fn the_first_that_is_well_is_asked() {
        let (well, is) = (Known::default(), |name: &str| Ok(name.to_owned()));
        assert_eq!(well.choice(), is("a"));
        assert_eq!(Known { held: [5, 0], ..well }.choice(), is("b"), "this name was sent away");
        assert_eq!(Known { held: [5, 0], paused: [(0, 9), (0, 0)], ..well }.choice(), is("b"));
        assert_eq!(Known { paused: [(0, 9), (0, 0)], ..well }.choice(), is("a"), "its pause is over");
        assert_eq!(Known { held: [9, 5], ..well }.choice(), Err((5, Scope::Name)));
        assert_eq!(Known { paused: [(7, 2), (0, 0)], ..well }.choice(), Err((7, Scope::All)), "it gets a few tries");
        assert_eq!(Known { paused: [(7, 3), (0, 0)], ..well }.choice(), is("b"));
        assert_eq!(Known { paused: [(7, 3), (9, 3)], ..well }.choice(), Err((7, Scope::All)));
        assert_eq!(Known { held: [0, 6], paused: [(7, 3), (0, 0)], ..well }.choice(), Err((6, Scope::Name)));
        assert_eq!(Known { begun: Some("b"), ..well }.choice(), is("b"), "what has begun is finished");
        assert_eq!(Known { begun: Some("b"), held: [0, 5], ..well }.choice(), is("a"));
    }

    #[test]
    fn a_limit_that_is_reached_sends_to_the_next_ca_or_holds_those_it_counts_for() {
        let (well, is) = (Known::default(), |name: &str| Ok(name.to_owned()));
        assert_eq!(Known { orders: [5, 0], ..well }.choice(), is("b"));
        assert_eq!(Known { orders: [5, 9], ..well }.choice(), Err((5, Scope::New)));
        assert_eq!(Known { domain: [7, 9], ..well }.choice(), Err((7, Scope::Domain)));
        assert_eq!(Known { orders: [5, 0], domain: [0, 9], ..well }.choice(), Err((5, Scope::Domain)));
        assert_eq!(Known { orders: [5, 9], domain: [8, 9], ..well }.choice(), Err((8, Scope::Domain)));
        assert_eq!(Known { orders: [5, 9], begun: Some("a"), ..well }.choice(), is("a"), "it was counted before");
    }

    #[test]
    fn with_nothing_known_the_first_is_asked() {
        let (cas, spent) = (Cas::from(ca("a")), SpentBy::new());
        assert_eq!(choose(&cas, &newcomer(&spent), &Ledgers::new(), at(0)), Choice::Ask(&ca("a"), Purpose::New));
    }

    #[test]
    fn renewals_are_counted_as_the_ca_counts_them() {
        let cas = Cas::from(ca("a"));
        let directory = cas.first().directory.clone();
        let full = Ledger { orders: at(50), ..Ledger::default() };
        let ledgers = Ledgers::from([(directory.clone(), full)]);
        let certificate = crate::Certificate::decode(include_bytes!("../fixtures/certificate-v1.record")).unwrap();
        let facts = Facts { authority: directory.clone(), not_after: at(9), ..certificate.facts() };
        let window = Some(crate::Window { start: at(0), end: at(1) });
        let advice = Renewal { serial: facts.serial.clone(), window, ask_at: at(5) };
        let spent = SpentBy::from([(directory, Spent { exact: at(20), ..Spent::default() })]);
        let (nothing, exact) = (SpentBy::new(), spent);
        let decide = |facts, renewal, spent| match choose(
            &cas,
            &Seeker { facts, renewal, ..newcomer(spent) },
            &ledgers,
            at(0),
        ) {
            Choice::Ask(_, purpose) => Ok(purpose),
            Choice::Wait(held) => Err(held.until.as_second() - NOW),
        };
        assert_eq!(decide(None, None, &nothing), Err(50));
        assert_eq!(decide(Some(&facts), None, &nothing), Ok(Purpose::Renewal));
        assert_eq!(decide(Some(&facts), None, &exact), Err(20));
        assert_eq!(decide(Some(&facts), Some(&advice), &exact), Ok(Purpose::Replacement));
        let elsewhere = Facts { authority: "https://b.example/d".to_owned(), ..facts.clone() };
        assert_eq!(decide(Some(&elsewhere), Some(&advice), &nothing), Err(50), "new there");
    }
}
