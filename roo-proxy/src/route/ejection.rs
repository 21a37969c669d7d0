//! When instances are taken out of the rotation.

use std::time::Duration;

/// When an instance that fails is passed over, and for how long.
///
/// After the model of Envoy's outlier detection, from which the number of failures and the way back are taken; doubled
/// times, and one request that finds out, are those of linkerd's failure accrual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failed requests in a row after which an instance is ejected: connections that broke before the answer, answers
    /// that did not come in time, and 502, 503 and 504. An instance that accepts no connection is ejected at once, since
    /// nothing is lost by passing over it. 0 ejects for neither. Default 5.
    pub failures: u32,
    /// The first time out; it doubles with every ejection that follows. Default 2 s.
    pub backoff: Duration,
    /// The longest time out. Default 1 min.
    pub backoff_max: Duration,
    /// How many of the instances may be out for failed requests, in percent, rounded down: whoever is left has to bear
    /// the load of those. Default 50; no bound on those that accept no connection.
    pub percent_max: u8,
}

impl Default for Ejection {
    fn default() -> Ejection {
        Ejection { failures: 5, backoff: Duration::from_secs(2), backoff_max: Duration::from_secs(60), percent_max: 50 }
    }
}

impl Ejection {
    /// The time out, for the so many-th ejection in a row.
    pub(crate) fn time_out(&self, ejections: u32) -> Duration {
        let doubled = 2u32.saturating_pow(ejections.saturating_sub(1));
        self.backoff.saturating_mul(doubled).min(self.backoff_max.max(self.backoff))
    }

    /// How many ejections still count for somebody who was in service for so long since the last one.
    pub(crate) fn remembered(&self, ejections: u32, in_service: Duration) -> u32 {
        let forgotten = in_service.as_millis() / FORGETS_ONE_IN.as_millis();
        ejections.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// Whether one more of `all` may be out for failed requests.
    pub(crate) fn may_eject(&self, out: usize, all: usize) -> bool {
        out < all * usize::from(self.percent_max) / 100
    }
}

/// As Envoy's interval.
const FORGETS_ONE_IN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_time_out_doubles_up_to_its_bound() {
        let seconds = |ejections| Ejection::default().time_out(ejections).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 7, u32::MAX].map(seconds), [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn half_of_them_may_be_out() {
        let most = |all| (0..=all).find(|out| !Ejection::default().may_eject(*out, all));
        assert_eq!([1, 2, 3, 4, 5].map(most), [Some(0), Some(1), Some(1), Some(2), Some(2)]);
    }

    #[test]
    fn ejections_are_forgotten_one_by_one() {
        let left = |seconds| Ejection::default().remembered(3, Duration::from_secs(seconds));
        assert_eq!([0, 9, 10, 20, 30, 9999].map(left), [3, 3, 2, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_time_out_never_shrinks_nor_passes_its_bound(backoff in 1u64..100_000, more in 0u64..100_000, n in 1u32..99) {
            let (backoff, max) = (Duration::from_millis(backoff), Duration::from_millis(backoff + more));
            let ejection = Ejection { backoff, backoff_max: max, ..Ejection::default() };
            prop_assert!(ejection.time_out(n) <= ejection.time_out(n + 1));
            prop_assert!((backoff..=max).contains(&ejection.time_out(n)));
        }
    }
}
