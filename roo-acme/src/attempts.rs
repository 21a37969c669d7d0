//! The memory of failures: how often a name failed, why, and when it may be tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::challenge::Challenge;
use crate::choice::TRIES;
use crate::record::{self, RecordError};
use crate::timestamp;

/// Failures of one name since its last success. Stored, so that a restart forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failures in a row, at least 1.
    pub failures: u32,
    /// How many of them were the authority saying no; the others did not reach it.
    pub refusals: u32,
    /// What went wrong last, for people; one line, never holds a secret. At most 1 KiB.
    pub last_error: String,
    /// When it went wrong last; not before what a person asked for last and was tried then.
    #[serde(with = "timestamp")]
    pub last_at: Timestamp,
    /// Not to be tried before this time.
    #[serde(with = "timestamp")]
    pub next_at: Timestamp,
    /// By which kind of challenge the name could not be proven last; the next try begins with another kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Challenge>,
    /// What CAs answered for reasons of their own, by directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cas: BTreeMap<String, AtCa>,
    /// What went wrong last was a revocation that will not be tried again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub revocation: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Failures of one name at one CA, for reasons of the CA's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtCa {
    /// Failures in a row, at least 1.
    pub failures: u32,
    /// The name is not ordered there before.
    #[serde(with = "timestamp")]
    pub next_at: Timestamp,
}

/// One failure, as far as it matters for the next try.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: String,
    pub(crate) kind: FailureKind,
    /// The authority asked not to be bothered before.
    pub(crate) retry_at: Option<Timestamp>,
    /// By which kind of challenge the name could not be proven.
    pub(crate) challenge: Option<Challenge>,
    /// Whether there is another kind that was not tried.
    pub(crate) another: bool,
    /// The CA whose own reason it was, by its directory, if it was one's.
    pub(crate) ca: Option<String>,
    /// It ends a revocation.
    pub(crate) revocation: bool,
}

#[cfg(test)]
impl Failure {
    /// One that has nothing to do with challenges.
    pub(crate) fn new(error: String, kind: FailureKind, retry_at: Option<Timestamp>) -> Self {
        Self { error, kind, retry_at, challenge: None, another: false, ca: None, revocation: false }
    }
}

/// Who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The authority said no: trying costs something there.
    Refused,
    /// The authority or the store did not answer: trying is free.
    Unreachable,
}

impl FailureKind {
    /// The value of the metrics' label `result`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Attempts {
    /// The stored form, behind a version byte.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }

    /// The memory after one more `failure` at `now`. `spread` in `0.0..1.0` is the jitter. `left` is how long the
    /// present certificate still holds: waits shrink with it, so that there are tries before its end.
    ///
    /// Refusals and silences wait by their own counts: a CA that was away for a day must not push a name
    /// into the long waits meant for names that the CA refuses. The first fall-back to another kind of challenge
    /// follows soon.
    pub(crate) fn after(
        earlier: Option<&Self>,
        failure: &Failure,
        now: Timestamp,
        spread: f64,
        left: Option<Duration>,
    ) -> Self {
        let failures = earlier.map_or(0, |attempts| attempts.failures);
        let refusals = earlier.map_or(0, |attempts| attempts.refusals);
        let silences = failures.saturating_sub(refusals);
        let (refusals, delay) = match failure.kind {
            FailureKind::Refused => {
                let refusals = refusals.saturating_add(1);
                let backoff = if failure.another && refusals == 1 { Backoff::UNREACHABLE } else { Backoff::REFUSED };
                (refusals, backoff.delay(refusals, spread))
            }
            FailureKind::Unreachable => {
                let silences = silences.saturating_add(1);
                (refusals, Backoff::UNREACHABLE.delay(silences, spread))
            }
        };
        let delay = left.map_or(delay, |left| delay.min((left / 8).max(SHORTENED_MIN)));
        let own = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
        let latest = now.saturating_add(RETRY_AFTER_MAX).unwrap_or(Timestamp::MAX);
        let asked = failure.retry_at.unwrap_or(now).min(latest);
        let next_at = own.max(asked);
        let mut cas = earlier.map(|attempts| attempts.cas.clone()).unwrap_or_default();
        if let Some(directory) = &failure.ca {
            let failures = cas.get(directory).map_or(0, |at| at.failures).saturating_add(1);
            // What may pass in a moment is no reason to go elsewhere, unless it happens again and again.
            let passing = failure.kind == FailureKind::Unreachable && failures < TRIES;
            let next_at = if passing { now } else { next_at };
            cas.insert(directory.clone(), AtCa { failures, next_at });
        }
        Self {
            failures: failures.saturating_add(1),
            refusals,
            last_error: one_line(&failure.error),
            last_at: now,
            next_at,
            challenge: failure.challenge.or_else(|| earlier.and_then(|attempts| attempts.challenge)),
            cas,
            revocation: failure.revocation,
        }
    }

    /// Until when the CA with this directory has sent the name away.
    pub(crate) fn held_until(&self, directory: &str) -> Option<Timestamp> {
        self.cas.get(directory).map(|at| at.next_at)
    }
}

#[cfg(test)]
impl Attempts {
    /// One failure that holds nothing back.
    pub(crate) fn at_the_beginning(now: Timestamp) -> Self {
        let failure = Failure::new(String::new(), FailureKind::Unreachable, None);
        Self { next_at: now, ..Self::after(None, &failure, now, 0.0, None) }
    }

    pub(crate) fn hold(&mut self, directory: &str, next_at: Timestamp) {
        self.cas.insert(directory.to_owned(), AtCa { failures: 1, next_at });
    }
}

/// A longer `Retry-After` is cut to this: no published limit is longer than a week.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(7 * 24);

/// Waits are not shortened below this: Let's Encrypt blocks a name after five failed validations an hour.
const SHORTENED_MIN: Duration = Duration::from_mins(20);

const ERROR_BYTES_MAX: usize = 1024;

/// The text as one line without control characters, cut at a character boundary.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.trim().chars() {
        if line.len() + character.len_utf8() > ERROR_BYTES_MAX {
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        Failure::new("no route to host".to_owned(), kind, None)
    }

    fn seconds_until_next(attempts: &Attempts) -> i64 {
        attempts.next_at.as_second() - attempts.last_at.as_second()
    }

    #[test]
    fn an_outage_does_not_lengthen_the_waits_for_refusals() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut attempts = None;
        for _ in 0..50 {
            let failure = failure(FailureKind::Unreachable);
            attempts = Some(Attempts::after(attempts.as_ref(), &failure, now, 0.0, None));
        }
        assert_eq!(seconds_until_next(attempts.as_ref().unwrap()), 15 * 60);
        let refused = failure(FailureKind::Refused);
        let attempts = Attempts::after(attempts.as_ref(), &refused, now, 0.0, None);
        assert_eq!(seconds_until_next(&attempts), 30);
        assert_eq!((attempts.failures, attempts.refusals), (51, 1));
    }

    #[test]
    fn another_kind_of_challenge_follows_soon_but_only_once() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let by = |challenge| Failure { challenge: Some(challenge), another: true, ..failure(FailureKind::Refused) };
        let first = Attempts::after(None, &by(Challenge::Http01), now, 0.0, None);
        assert_eq!((seconds_until_next(&first), first.challenge), (5, Some(Challenge::Http01)));
        let second = Attempts::after(Some(&first), &by(Challenge::TlsAlpn01), now, 0.0, None);
        assert_eq!((seconds_until_next(&second), second.challenge), (150, Some(Challenge::TlsAlpn01)));
        // What is no failure of a challenge does not forget it.
        let third = Attempts::after(Some(&second), &failure(FailureKind::Unreachable), now, 0.0, None);
        assert_eq!(third.challenge, Some(Challenge::TlsAlpn01));
        assert_eq!(Attempts::decode(&third.encode()).unwrap(), third);
    }

    #[test]
    fn a_ca_is_left_after_a_few_failures_or_at_once_when_it_refuses() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (here, there) = ("https://a.example/d", "https://b.example/d");
        let at = |ca: &str, kind| Failure { ca: Some(ca.to_owned()), ..failure(kind) };
        let held = |attempts: &Attempts, ca| attempts.held_until(ca).map(|until| until.as_second() - now.as_second());
        let mut attempts = Attempts::after(None, &failure(FailureKind::Refused), now, 0.0, None);
        assert_eq!(held(&attempts, here), None, "that was the name's own fault");
        for expected in [0, 0, 20] {
            attempts = Attempts::after(Some(&attempts), &at(here, FailureKind::Unreachable), now, 0.0, None);
            assert_eq!((held(&attempts, here), held(&attempts, there)), (Some(expected), None));
        }
        attempts = Attempts::after(Some(&attempts), &at(there, FailureKind::Refused), now, 0.0, None);
        assert_eq!((held(&attempts, here), held(&attempts, there)), (Some(20), Some(150)));
        assert_eq!(Attempts::decode(&attempts.encode()).unwrap(), attempts);
    }

    #[test]
    fn retry_after_is_obeyed_when_it_is_later_and_sane() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut refused = failure(FailureKind::Refused);
        for (retry_after, expected) in [(5, 30), (3600, 3600), (86_400 * 365, 86_400 * 7)] {
            refused.retry_at = Some(Timestamp::from_second(1_800_000_000 + retry_after).unwrap());
            let attempts = Attempts::after(None, &refused, now, 0.0, None);
            assert_eq!(seconds_until_next(&attempts), expected);
        }
    }

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"failures\":3,\"refusals\":2,\"last_error\":\"no such name\",\
            \"last_at\":\"2026-01-02T03:04:05Z\",\"next_at\":\"2026-01-02T03:16:35Z\"}";
        let attempts = Attempts::decode(stored).unwrap();
        assert_eq!((attempts.failures, attempts.refusals), (3, 2));
        assert_eq!(seconds_until_next(&attempts), 750);
        assert_eq!(Attempts::decode(&attempts.encode()).unwrap(), attempts);
    }

    proptest! {
        #[test]
        fn errors_become_one_bounded_line(error in ".{0,3000}") {
            let line = one_line(&error);
            prop_assert!(line.len() <= ERROR_BYTES_MAX);
            prop_assert!(!line.contains(char::is_control));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Attempts::decode(&bytes);
            let _ = crate::Certificate::decode(&bytes);
        }
    }
}
