//! What the CA says about when to renew a certificate (RFC 9773, ARI), and what follows from it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificate::{Facts, Managed};
use crate::record::{self, RecordError};
use crate::timestamp;

/// The CA's advice for one certificate. Stored, so that another issuer does not ask again at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The certificate it is about: [`Facts::serial`]. Advice for an earlier one does not count.
    pub serial: String,
    /// When to renew; `None` if the CA gives no advice.
    pub window: Option<Window>,
    /// When to ask again.
    #[serde(with = "timestamp")]
    pub ask_at: Timestamp,
}

/// The time in which the CA would like a renewal (RFC 9773 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Not before.
    #[serde(with = "timestamp")]
    pub start: Timestamp,
    /// Not after; not before `start`.
    #[serde(with = "timestamp")]
    pub end: Timestamp,
}

impl Renewal {
    /// The stored form, behind a version byte.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }

    /// The CA's answer at `now`, with its `Retry-After`.
    pub(crate) fn answered(facts: &Facts, window: Window, retry_after: Duration, now: Timestamp) -> Self {
        let longest = ASK_MAX.min(life(facts) / 12).max(ASK_MIN);
        let ask_at = later(now, retry_after.clamp(ASK_MIN, longest));
        Self { serial: facts.serial.clone(), window: Some(window), ask_at }
    }

    /// There was no answer at `now`; what is `known` from before still holds.
    pub(crate) fn unanswered(facts: &Facts, known: Option<Window>, now: Timestamp) -> Self {
        Self { serial: facts.serial.clone(), window: known, ask_at: later(now, ASK_AFTER_FAILURE) }
    }

    /// The CA at hand gives no advice; that changes rarely.
    pub(crate) fn unsupported(facts: &Facts, now: Timestamp) -> Self {
        Self { serial: facts.serial.clone(), window: None, ask_at: later(now, life(facts) / 3) }
    }
}

impl Window {
    /// The point of the window that `spread` in `0..=u16::MAX` chooses.
    fn point(&self, spread: u16) -> Timestamp {
        let (start, end) = (self.start.as_second(), self.end.as_second());
        let into = i128::from(end.saturating_sub(start).max(0)) * i128::from(spread) / 0xffff;
        let into = i64::try_from(into).unwrap_or_default();
        Timestamp::from_second(start.saturating_add(into)).unwrap_or(self.start)
    }
}

/// When to renew: at a point of the CA's window that is chosen by chance, the same on every node; without advice at
/// two thirds of the life, up to a twentieth of it earlier, so that names issued together are not renewed together.
/// Advice to wait longer than nine tenths of the life is not followed. One that was brought in is left alone until a
/// week, or a sixth of a short life, before its end.
pub fn renew_at(name: &str, facts: &Facts, renewal: Option<&Renewal>) -> Timestamp {
    if facts.managed == Managed::Import {
        let life = life_seconds(facts);
        let left = IMPORTED_LEFT.min(life / 6);
        return Timestamp::from_second(facts.not_before.as_second() + life - left).unwrap_or(facts.not_before);
    }
    let advised = renewal.filter(|renewal| renewal.serial == facts.serial).and_then(|renewal| renewal.window);
    let (start, life) = (facts.not_before.as_second(), life_seconds(facts));
    let after = |seconds: i64| Timestamp::from_second(start + seconds).unwrap_or(facts.not_before);
    match advised {
        Some(window) => window.point(spread_of(&[name, &facts.serial])).min(after(life / 10 * 9)),
        None => after(life / 3 * 2 - life / 20 * i64::from(spread_of(&[name])) / i64::from(u16::MAX)),
    }
}

/// Whether a renewal at `now` is due to advice only, and that within a day of issuing, or a sixth of a short life.
pub(crate) fn is_hasty(name: &str, former: &Facts, now: Timestamp) -> bool {
    let early = HASTY.min(life(former) / 6);
    now < later(former.not_before, early) && renew_at(name, former, None) > now
}

/// When to ask the CA about the certificate; `since` = when this node began to look after it. Names are spread over
/// the whole interval, so that after a restart or change of the issuer not all are asked about at once.
pub(crate) fn ask_at(name: &str, facts: &Facts, renewal: Option<&Renewal>, since: Timestamp) -> Timestamp {
    match renewal.filter(|renewal| renewal.serial == facts.serial) {
        Some(renewal) => renewal.ask_at,
        None => {
            let interval = ASK_INTERVAL.min(life(facts) / 12);
            later(since.max(facts.not_before), interval.mul_f64(f64::from(spread_of(&[name])) / f64::from(u16::MAX)))
        }
    }
}

/// How long a certificate is valid in all.
fn life(facts: &Facts) -> Duration {
    Duration::from_secs(life_seconds(facts).unsigned_abs())
}

fn life_seconds(facts: &Facts) -> i64 {
    facts.not_after.as_second().saturating_sub(facts.not_before.as_second()).max(0)
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// A number that is the same for the same texts on every node (FNV-1a, folded).
fn spread_of(texts: &[&str]) -> u16 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

/// Seconds before the end of a certificate that was brought in when another is ordered in its place.
const IMPORTED_LEFT: i64 = 7 * 24 * 3600;
/// A certificate is young until then.
const HASTY: Duration = Duration::from_hours(24);
/// Names are first asked about within this time.
const ASK_INTERVAL: Duration = Duration::from_hours(6);
/// Bounds on the CA's `Retry-After` (RFC 9773 section 4.3.2).
const ASK_MIN: Duration = Duration::from_mins(1);
const ASK_MAX: Duration = Duration::from_hours(24);
const ASK_AFTER_FAILURE: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn facts(start: i64, life: i64) -> Facts {
        Facts {
            not_before: at(start),
            not_after: at(start + life),
            serial: "0a".to_owned(),
            ..crate::Certificate::decode(include_bytes!("../fixtures/certificate-v1.record")).unwrap().facts()
        }
    }

    fn advice(serial: &str, start: i64, end: i64) -> Renewal {
        let window = Some(Window { start: at(start), end: at(end) });
        Renewal { serial: serial.to_owned(), window, ask_at: at(start) }
    }

    const DAY: i64 = 86_400;

    #[test]
    fn advice_counts_for_its_own_certificate_only() {
        let facts = facts(0, 90 * DAY);
        let soon = advice("0a", -5 * DAY, -4 * DAY);
        assert!(renew_at("a.example", &facts, Some(&soon)) < at(0));
        let other = advice("0b", -5 * DAY, -4 * DAY);
        assert_eq!(renew_at("a.example", &facts, Some(&other)), renew_at("a.example", &facts, None));
    }

    #[test]
    fn names_of_one_window_are_spread_over_it() {
        let facts = facts(0, 90 * DAY);
        for hours in [3, 48] {
            let (start, seconds) = (50 * DAY, hours * 3_600);
            let window = advice("0a", start, start + seconds);
            let points: Vec<i64> =
                (0..200).map(|n| renew_at(&format!("{n}.example"), &facts, Some(&window)).as_second()).collect();
            assert!(points.iter().all(|point| (start..=start + seconds).contains(point)));
            for half in 0..2 {
                let half = start + seconds / 2 * half..start + seconds / 2 * (half + 1);
                let count = points.iter().filter(|point| half.contains(point)).count();
                assert!((75..125).contains(&count), "{count} of 200 in {half:?}");
            }
        }
    }

    #[test]
    fn only_the_renewal_of_a_young_certificate_is_hasty() {
        for (life, now, expected) in [
            (90 * DAY, DAY - 1, true),
            (90 * DAY, DAY, false),
            (3 * DAY, DAY / 2 - 1, true),
            (3 * DAY, DAY / 2, false),
            (90 * DAY, 80 * DAY, false),
        ] {
            assert_eq!(is_hasty("a.example", &facts(0, life), at(now)), expected, "{life} {now}");
        }
    }

    #[test]
    fn retry_after_is_bounded_and_scales_with_the_life() {
        let now = at(1_800_000_000);
        let window = advice("0a", 0, 0).window.unwrap();
        let waits = |days: i64, retry: u64| {
            let renewal = Renewal::answered(&facts(0, days * DAY), window, Duration::from_secs(retry), now);
            renewal.ask_at.as_second() - now.as_second()
        };
        assert_eq!(waits(90, 21_600), 21_600);
        assert_eq!(waits(90, 0), 60);
        assert_eq!(waits(90, 30 * 86_400), DAY);
        assert_eq!(waits(6, 30 * 86_400), DAY / 2);
    }

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"serial\":\"0a\",\"window\":{\"start\":\"2026-01-02T03:04:05Z\",\
            \"end\":\"2026-01-04T03:04:05Z\"},\"ask_at\":\"2026-01-01T09:04:05Z\"}";
        let renewal = Renewal::decode(stored).unwrap();
        assert_eq!(renewal.serial, "0a");
        assert_eq!(renewal.encode(), stored);
    }

    proptest! {
        #[test]
        fn renewal_lies_within_the_life(
            name in "[a-z]{1,20}\\.example",
            start in -1_000_000_000i64..4_000_000_000,
            life in 0i64..1_000_000_000,
            late in 0i64..1_000_000_000,
        ) {
            let facts = facts(start, life);
            for renewal in [None, Some(advice("0a", start + late, start + late + DAY))] {
                let renewal = renew_at(&name, &facts, renewal.as_ref());
                prop_assert!(renewal >= facts.not_before && renewal <= facts.not_after);
            }
        }
    }
}
