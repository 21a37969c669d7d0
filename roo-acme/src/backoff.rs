//! How long to wait after a failure.

use std::time::Duration;

/// Exponential, capped waiting; the caller's `spread` in `0.0..1.0` adds up to a fifth so that names that
/// failed together are not tried together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    factor: u32,
    longest: Duration,
}

impl Backoff {
    /// After the CA said no: 30 s, 150 s, 12.5 min, 62 min, 5.2 h, then once a day.
    ///
    /// At most four tries in any hour: Let's Encrypt blocks a name after five failed validations an hour.
    pub(crate) const REFUSED: Self =
        Self { first: Duration::from_secs(30), factor: 5, longest: Duration::from_hours(24) };

    /// When the CA or the store could not be asked: 5 s, 10 s, … then every quarter of an hour.
    pub(crate) const UNREACHABLE: Self =
        Self { first: Duration::from_secs(5), factor: 2, longest: Duration::from_mins(15) };

    /// The wait after the `failures`-th failure in a row (1 = the first; 0 counts as 1).
    pub(crate) fn delay(&self, failures: u32, spread: f64) -> Duration {
        let steps = failures.saturating_sub(1);
        let delay = self
            .factor
            .checked_pow(steps)
            .and_then(|times| self.first.checked_mul(times))
            .map_or(self.longest, |delay| delay.min(self.longest));
        delay + delay.mul_f64(spread.clamp(0.0, 1.0) / 5.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grows_to_its_cap() {
        let seconds: Vec<u64> = (0..8).map(|failures| Backoff::REFUSED.delay(failures, 0.0).as_secs()).collect();
        assert_eq!(seconds, [30, 30, 150, 750, 3750, 18_750, 86_400, 86_400]);
    }

    #[test]
    fn refusals_stay_below_five_an_hour() {
        let mut times = vec![0];
        for failures in 1..20 {
            let last = times[times.len() - 1];
            times.push(last + Backoff::REFUSED.delay(failures, 0.0).as_secs());
        }
        for (index, start) in times.iter().enumerate() {
            let within = times[index..].iter().filter(|time| **time < start + 3600);
            assert!(within.count() <= 4, "{times:?}");
        }
    }

    proptest! {
        #[test]
        fn never_shrinks_and_stays_bounded(failures in 0u32..u32::MAX, spread in 0.0f64..1.0) {
            for backoff in [Backoff::REFUSED, Backoff::UNREACHABLE] {
                let delay = backoff.delay(failures, spread);
                prop_assert!(delay >= backoff.first);
                prop_assert!(delay <= backoff.longest.mul_f64(1.2));
                prop_assert!(backoff.delay(failures, 0.0) <= backoff.delay(failures + 1, 0.0));
            }
        }
    }
}
