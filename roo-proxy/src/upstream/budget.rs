//! How many requests of a route may be sent again: a part of those that come, so that retries can't multiply a flood.
//!
//! As Finagle's and linkerd's retry budgets: 20 % of the requests of the last ten seconds, and ten a second that are always
//! allowed, so that a quiet route can retry at all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The part of the requests that may be sent again.
const SHARE: f64 = 0.2;
/// What may be sent again in a second, however few requests there are.
const PER_SECOND: f64 = 10.0;
/// What is not used is lost after this time.
const WINDOW: Duration = Duration::from_secs(10);

/// The budget of one route. A request that is not sent again never looks at it: it is reckoned from the count of
/// requests when it is asked.
#[derive(Default)]
pub(crate) struct Budget(Mutex<Option<Tokens>>);

struct Tokens {
    left: f64,
    /// The count of requests at the last look, and when that was.
    requests: usize,
    at: Instant,
}

impl Budget {
    /// Takes one retry out, if there is one. `requests` counts those that have come so far.
    pub(crate) fn take(&self, requests: usize, now: Instant) -> bool {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = PER_SECOND * WINDOW.as_secs_f64();
        let tokens = tokens.get_or_insert(Tokens { left: full, requests, at: now });
        let elapsed = now.saturating_duration_since(tokens.at).as_secs_f64();
        let window = WINDOW.as_secs_f64();
        let come = requests.wrapping_sub(tokens.requests) as f64;
        // Of a time longer than the window, as many as came in a window on average.
        let counted = come * (window / elapsed.max(window));
        let kept = tokens.left * (1.0 - elapsed / window).max(0.0);
        *tokens = Tokens { left: kept + counted * SHARE + elapsed.min(window) * PER_SECOND, requests, at: now };
        if tokens.left < 1.0 {
            return false;
        }
        tokens.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `asked` retries are granted at once.
    fn granted(budget: &Budget, requests: usize, asked: usize) -> usize {
        (0..asked).filter(|_| budget.take(requests, Instant::now())).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_route_has_ten_a_second() {
        let budget = Budget::default();
        assert_eq!(granted(&budget, 0, 1000), 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(granted(&budget, 0, 1000), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(granted(&budget, 0, 1000), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_route_has_a_fifth_of_its_requests() {
        let budget = Budget::default();
        assert_eq!(granted(&budget, 0, 1000), 100);
        let mut requests = 0;
        let mut retries = 0;
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            requests += 1000;
            retries += granted(&budget, requests, 1000);
        }
        assert!((20_000..=20_200).contains(&retries), "{retries} of {requests}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_is_lost() {
        let budget = Budget::default();
        assert!(budget.take(0, Instant::now()));
        // A million requests in an hour are 2,778 in ten seconds.
        tokio::time::advance(Duration::from_secs(3600)).await;
        let granted = granted(&budget, 1_000_000, 10_000);
        assert!((650..=660).contains(&granted), "{granted}");
    }
}
