//! What the cluster knows about a CA: how it fares, and what was spent of its limits. Stored, so that another issuer or
//! a restart forgets nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::limits::{Limit, Limits, later, registered_domain};
use crate::record::{self, RecordError};
use crate::timestamp;

/// Longer than any pause lasts, with its jitter.
const PAUSE_MAX: Duration = Duration::from_mins(20);

/// For which a CA that does not tell when to renew is not asked again, at most.
const SILENCE_MAX: Duration = Duration::from_hours(7 * 24);

/// The ledgers of the configured CAs, by directory.
pub(crate) type Ledgers = BTreeMap<String, Ledger>;

/// What is known about one CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Failures in a row that would have met any name.
    #[serde(default)]
    pub failures: u32,
    /// The CA is not bothered before, with any name.
    #[serde(with = "timestamp")]
    pub paused_until: Timestamp,
    /// When as many orders may be made as ever.
    #[serde(with = "timestamp", default)]
    pub(crate) orders: Timestamp,
    /// The same for new certificates of registered domains; those that are not there have spent nothing. Grows with the
    /// orders that the CA allows in the time that its limit on domains needs to refill by one.
    #[serde(with = "timestamp::by_name", default)]
    pub(crate) domains: BTreeMap<String, Timestamp>,
    /// The CA does not tell when to renew, and is not asked before.
    #[serde(with = "timestamp", default)]
    pub(crate) silent_until: Timestamp,
}

/// What one name has spent at one CA. Stored with the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// When as many certificates of exactly this name may be had as ever.
    #[serde(with = "timestamp", default)]
    pub(crate) exact: Timestamp,
    /// When as many validations may fail as ever.
    #[serde(with = "timestamp", default)]
    pub(crate) failures: Timestamp,
}

/// What a name has spent, by directory.
pub(crate) type SpentBy = BTreeMap<String, Spent>;

/// What an order is in the eyes of a CA that limits orders
/// (<https://letsencrypt.org/docs/rate-limits/#limit-exemptions-for-renewals>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The first certificate of the name there: all limits count.
    New,
    /// Another one of exactly the same name.
    Renewal,
    /// One that replaces the former as the CA advised (RFC 9773 section 5): no limit counts.
    Replacement,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) limit: &'static str,
    pub(crate) until: Timestamp,
}

impl Spent {
    /// As [`Ledger::correct`].
    pub(crate) fn correct(&mut self, limits: &Limits, now: Timestamp) {
        let latest = |limit: Option<Limit>| limit.map_or(Timestamp::MAX, |limit| limit.latest(now));
        self.exact = self.exact.min(latest(limits.exact));
        self.failures = self.failures.min(latest(limits.failures));
    }
}

impl Default for Ledger {
    fn default() -> Self {
        let long_ago = Timestamp::UNIX_EPOCH;
        Self { failures: 0, paused_until: long_ago, orders: long_ago, domains: BTreeMap::new(), silent_until: long_ago }
    }
}

impl Ledger {
    /// The stored form, behind a version byte.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }

    /// Takes back what no clock that is right can have written: one that was ahead must not hold orders back for as long.
    pub(crate) fn correct(&mut self, limits: &Limits, now: Timestamp) {
        let latest = |limit: Option<Limit>| limit.map_or(Timestamp::MAX, |limit| limit.latest(now));
        self.orders = self.orders.min(latest(limits.orders));
        for full_at in self.domains.values_mut() {
            *full_at = (*full_at).min(latest(limits.domain));
        }
        self.paused_until = self.paused_until.min(later(now, PAUSE_MAX));
        self.silent_until = self.silent_until.min(later(now, SILENCE_MAX));
    }

    /// Counts a failure at `now` that any name would have met, and holds all of them back for a while, but not longer
    /// than `latest`. `spread` in `0.0..1.0` is the jitter.
    ///
    /// Growing from seconds rather than for as long as the failed name waits: a CA answers 429 for a limit on
    /// one name as for a limit on all, and one name's limit must not keep the others waiting for days.
    pub(crate) fn failed(&mut self, now: Timestamp, latest: Timestamp, spread: f64) {
        // Orders that were in flight together fail together; that is one reason to pause.
        if self.paused_until > now {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = Backoff::UNREACHABLE.delay(self.failures, spread);
        self.paused_until = now.saturating_add(pause).unwrap_or(Timestamp::MAX).min(latest);
    }

    /// Takes note that the CA does its work; whether that is news.
    pub(crate) fn answered(&mut self) -> bool {
        let news = self.failures > 0;
        self.failures = 0;
        self.paused_until = Timestamp::UNIX_EPOCH;
        news
    }

    /// The limit that an order for `name` would reach at `now`: of several the one that holds it longest.
    pub(crate) fn reached(
        &self,
        limits: &Limits,
        name: &str,
        spent: Spent,
        purpose: Purpose,
        now: Timestamp,
    ) -> Option<Reached> {
        let is_new = purpose == Purpose::New;
        let of_name = purpose != Purpose::Replacement;
        let buckets = [
            ("orders", limits.orders.filter(|_| is_new), self.orders),
            ("domain", limits.domain.filter(|_| is_new), self.domain(name)),
            ("exact", limits.exact.filter(|_| of_name), spent.exact),
            ("failures", limits.failures.filter(|_| of_name), spent.failures),
        ];
        let reached = buckets.into_iter().filter_map(|(name, limit, full_at)| {
            let until = limit?.free_at(full_at);
            (until > now).then_some(Reached { limit: name, until })
        });
        reached.max_by_key(|reached| reached.until)
    }

    /// Counts an order that is about to be made; whether anything is to be stored.
    pub(crate) fn order(&mut self, limits: &Limits, name: &str, purpose: Purpose, now: Timestamp) -> bool {
        if purpose != Purpose::New {
            return false;
        }
        self.domains.retain(|_, full_at| *full_at > now);
        if let Some(limit) = limits.orders {
            self.orders = limit.spent(self.orders, now);
        }
        if let Some(limit) = limits.domain {
            let full_at = limit.spent(self.domain(name), now);
            self.domains.insert(registered_domain(name).to_owned(), full_at);
        }
        limits.orders.is_some() || limits.domain.is_some()
    }

    /// Gives back what an order counted as that brought no certificate: the CA counts certificates by domain, and orders
    /// by themselves; so they stay spent if it was `made`.
    pub(crate) fn fruitless(&mut self, limits: &Limits, name: &str, made: bool) -> bool {
        if let Some(limit) = limits.orders.filter(|_| !made) {
            self.orders = limit.returned(self.orders);
        }
        if let Some(limit) = limits.domain {
            let full_at = limit.returned(self.domain(name));
            self.domains.insert(registered_domain(name).to_owned(), full_at);
        }
        limits.orders.is_some_and(|_| !made) || limits.domain.is_some()
    }

    /// How much is left at `now`: of new orders, and of new certificates for the registered domain with the least.
    pub(crate) fn remaining(&self, limits: &Limits, now: Timestamp) -> impl Iterator<Item = (&'static str, u32)> {
        let orders = limits.orders.map(|limit| ("orders", limit.remaining(self.orders, now)));
        let fullest = self.domains.values().max().copied().unwrap_or(Timestamp::UNIX_EPOCH);
        let domain = limits.domain.map(|limit| ("domain", limit.remaining(fullest, now)));
        orders.into_iter().chain(domain)
    }

    fn domain(&self, name: &str) -> Timestamp {
        self.domains.get(registered_domain(name)).copied().unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::authority::LETS_ENCRYPT_PRODUCTION;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn what_a_clock_that_was_ahead_has_counted_holds_nobody_for_longer_than_a_limit_does() {
        const DAY: i64 = 86_400;
        let limits = Limits::known(LETS_ENCRYPT_PRODUCTION);
        let (mut ledger, mut spent, ahead) = (Ledger::default(), Spent::default(), at(365 * DAY));
        ledger.order(&limits, "a.shop.example", Purpose::New, ahead);
        ledger.failed(ahead, at(366 * DAY), 0.0);
        spent.exact = limits.exact.unwrap().spent(spent.exact, ahead);
        ledger.correct(&limits, at(0));
        spent.correct(&limits, at(0));
        assert!(ledger.paused_until <= at(DAY / 24), "{ledger:?}");
        let reached = |after: i64| ledger.reached(&limits, "a.shop.example", spent, Purpose::New, at(after));
        assert!(reached(8 * DAY).is_none(), "{:?}", reached(8 * DAY));
        // What a clock that is right has counted stays.
        let mut counted = Ledger::default();
        counted.order(&limits, "b.shop.example", Purpose::New, at(0));
        let before = counted.clone();
        counted.correct(&limits, at(1));
        assert_eq!(counted, before);
    }

    #[test]
    fn a_limited_name_holds_the_others_back_for_seconds_only() {
        let mut ledger = Ledger::default();
        // Four orders in flight together meet the limit together: one pause.
        for _ in 0..4 {
            ledger.failed(at(100), at(100 + 86_400), 0.0);
        }
        assert_eq!((ledger.failures, ledger.paused_until), (1, at(105)));
        ledger.failed(at(105), at(86_400), 0.0);
        assert_eq!((ledger.failures, ledger.paused_until), (2, at(115)));
        ledger.failed(at(115), at(116), 0.0);
        assert_eq!(ledger.paused_until, at(116), "not longer than the name itself waits");
        assert!(ledger.answered());
        assert!(!ledger.answered());
    }

    #[test]
    fn decodes_the_first_released_format() {
        let stored =
            b"\x01{\"failures\":2,\"paused_until\":\"2026-01-02T03:04:05Z\",\"orders\":\"2026-01-02T03:04:05Z\",\
            \"domains\":{\"shop.example\":\"2026-01-02T03:04:05Z\"},\"silent_until\":\"2026-01-02T03:04:05Z\"}";
        let ledger = Ledger::decode(stored).unwrap();
        assert_eq!(ledger.failures, 2);
        assert_eq!(ledger.encode(), stored);
        let before = Ledger::decode(b"\x01{\"failures\":2,\"paused_until\":\"2026-01-02T03:04:05Z\"}").unwrap();
        assert_eq!(before.orders, Timestamp::default());
    }

    #[test]
    fn each_purpose_meets_the_limits_that_count_for_it() {
        let limits = Limits::known(LETS_ENCRYPT_PRODUCTION);
        let (free, full) = (Spent::default(), at(7 * 86_400));
        let exact = Spent { exact: full, ..free };
        let failures = Spent { failures: full, ..free };
        let spent_orders = Ledger { orders: full, ..Ledger::default() };
        let spent_domain = Ledger { domains: [("shop.example".to_owned(), full)].into(), ..Ledger::default() };
        let well = Ledger::default();
        for (ledger, spent, expected) in [
            (&well, free, [None, None, None]),
            (&spent_orders, free, [Some("orders"), None, None]),
            (&spent_domain, free, [Some("domain"), None, None]),
            (&well, exact, [Some("exact"), Some("exact"), None]),
            (&well, failures, [Some("failures"), Some("failures"), None]),
        ] {
            let purposes = [Purpose::New, Purpose::Renewal, Purpose::Replacement];
            let reached = |purpose| ledger.reached(&limits, "a.shop.example", spent, purpose, at(0));
            assert_eq!(purposes.map(|purpose| reached(purpose).map(|reached| reached.limit)), expected);
        }
        let other = spent_domain.reached(&limits, "a.other.example", free, Purpose::New, at(0));
        assert_eq!(other, None);
        assert_eq!(spent_domain.reached(&Limits::default(), "a.shop.example", exact, Purpose::New, at(0)), None);
    }

    #[test]
    fn what_is_spent_comes_back_with_time_or_when_nothing_came_of_it() {
        let limits = Limits::known(LETS_ENCRYPT_PRODUCTION);
        let mut ledger = Ledger::default();
        for _ in 0..49 {
            assert_eq!(ledger.reached(&limits, "a.shop.example", Spent::default(), Purpose::New, at(0)), None);
            assert!(ledger.order(&limits, "a.shop.example", Purpose::New, at(0)));
        }
        let reached = ledger.reached(&limits, "b.shop.example", Spent::default(), Purpose::New, at(0)).unwrap();
        assert_eq!((reached.limit, reached.until), ("domain", at(7 * 86_400 / 50)));
        assert!(ledger.fruitless(&limits, "a.shop.example", true));
        assert_eq!(ledger.reached(&limits, "b.shop.example", Spent::default(), Purpose::New, at(0)), None);
        assert_eq!(ledger.remaining(&limits, at(0)).collect::<Vec<_>>(), [("orders", 250), ("domain", 1)]);
        assert!(!ledger.order(&limits, "a.shop.example", Purpose::Renewal, at(0)));
        // Domains with nothing spent are forgotten.
        ledger.order(&limits, "a.other.example", Purpose::New, at(8 * 86_400));
        assert_eq!(ledger.domains.len(), 1);
    }
}
