//! Pauses between attempts.

use std::time::Duration;

/// Pauses that double from `first` to `max`, each shortened at random by up to half so that many nodes
/// do not ask at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        debug_assert!(first <= max);
        Self { first, max, next: first }
    }

    /// The next pause, between half of the current step and the whole of it.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.max);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_over() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, max);
        for step in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            let pause = backoff.pause();
            assert!(step / 2 <= pause && pause <= step, "{pause:?} for {step:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
