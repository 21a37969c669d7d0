//! What the cluster knows about a CA: how it fares. Stored, so that another issuer or a restart forgets nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::record::{self, RecordError};
use crate::timestamp;

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
}

impl Default for Ledger {
    fn default() -> Self {
        Self { failures: 0, paused_until: Timestamp::UNIX_EPOCH }
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
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
        let stored = b"\x01{\"failures\":2,\"paused_until\":\"2026-01-02T03:04:05Z\"}";
        let ledger = Ledger::decode(stored).unwrap();
        assert_eq!(ledger.failures, 2);
        assert_eq!(ledger.encode(), stored);
    }
}
