//! How long an instance takes to answer of late: an average that forgets, but jumps at once to what is worse.
//!
//! The peak EWMA of Finagle and linkerd: a slow answer counts in full, and fades within seconds while faster ones come, or
//! none at all, so that who was slow once is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The average. Written by all workers; of two samples at the same instant one may be lost, which an average can bear.
#[derive(Default)]
pub(crate) struct Latency {
    /// Seconds, as the bits of an `f64`. Zero before the first sample.
    seconds: AtomicU64,
    /// When that was, in microseconds of the instance's own clock.
    at: AtomicU64,
}

/// After this time an old sample weighs e times less.
const FADE: Duration = Duration::from_secs(10);

/// What is waited for from somebody who has not answered yet: more than any answer, so that one request finds out.
const UNKNOWN_SECONDS: f64 = 1e6;

impl Latency {
    /// Takes a sample at this age of the instance.
    pub(crate) fn record(&self, sample: Duration, age: Duration) {
        let sample = sample.as_secs_f64();
        let before = f64::from_bits(self.seconds.load(Ordering::Relaxed));
        let kept = kept(age, self.at.load(Ordering::Relaxed));
        let now = if sample > before * kept { sample } else { before * kept + sample * (1.0 - kept) };
        self.seconds.store(now.to_bits(), Ordering::Relaxed);
        self.at.store(micros(age), Ordering::Relaxed);
    }

    /// The average, in seconds; none before the first sample.
    pub(crate) fn seconds(&self, age: Duration) -> Option<f64> {
        let seconds = f64::from_bits(self.seconds.load(Ordering::Relaxed));
        (seconds > 0.0).then(|| seconds * kept(age, self.at.load(Ordering::Relaxed)))
    }

    /// What another request would meet: the average for each that is under way, and for itself.
    pub(crate) fn cost(&self, age: Duration, in_flight: usize) -> f64 {
        match self.seconds(age) {
            Some(seconds) => seconds * (in_flight as f64 + 1.0),
            None if in_flight == 0 => 0.0,
            None => UNKNOWN_SECONDS + in_flight as f64,
        }
    }
}

/// How much of a sample is left.
fn kept(age: Duration, at: u64) -> f64 {
    let elapsed = Duration::from_micros(micros(age).saturating_sub(at));
    (-elapsed.as_secs_f64() / FADE.as_secs_f64()).exp()
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.seconds(MS), None);
        latency.record(10 * MS, MS);
        assert_eq!(latency.seconds(MS), Some(0.01));
        latency.record(1000 * MS, 2 * MS);
        assert_eq!(latency.seconds(2 * MS), Some(1.0));
        // A fast answer right after it changes little.
        latency.record(10 * MS, 3 * MS);
        assert!(latency.seconds(3 * MS).unwrap() > 0.99);
        let later = latency.seconds(FADE + 3 * MS).unwrap();
        assert!((0.36..0.37).contains(&later), "{later}");
        latency.record(10 * MS, 10 * FADE);
        assert!(latency.seconds(10 * FADE).unwrap() < 0.011);
    }

    #[test]
    fn what_is_under_way_costs() {
        let latency = Latency::default();
        // Somebody new is asked once, and then waited for.
        assert_eq!(latency.cost(MS, 0), 0.0);
        assert!(latency.cost(MS, 1) > 3600.0);
        latency.record(100 * MS, MS);
        assert_eq!((latency.cost(MS, 0), latency.cost(MS, 3)), (0.1, 0.4));
    }

    proptest! {
        #[test]
        fn the_average_stays_between_nothing_and_the_worst(
            samples in proptest::collection::vec((1u64..10_000, 0u64..60_000), 1..50),
        ) {
            let latency = Latency::default();
            let mut age = Duration::ZERO;
            for (sample, pause) in &samples {
                age += Duration::from_millis(*pause);
                latency.record(Duration::from_millis(*sample), age);
            }
            let worst = samples.iter().map(|(sample, _)| *sample).max().unwrap() as f64 / 1000.0;
            let seconds = latency.seconds(age).unwrap();
            prop_assert!(seconds > 0.0 && seconds <= worst * 1.000_001, "{seconds} of {worst}");
        }
    }
}
