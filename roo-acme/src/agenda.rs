//! When to take in what has changed: changes come in swarms, and one look serves many.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Whether to look, and from when on.
#[derive(Default)]
pub(crate) struct Agenda {
    /// Something has changed since the look.
    stale: bool,
    /// Not before: with many names a look takes its time.
    look_from: Option<Instant>,
}

/// A look counts as this long at least: changes come in swarms.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// Looks take no more than one part in so many of a processor's time.
const LOOK_SHARE: u32 = 20;

impl Agenda {
    /// Something has changed: look soon.
    pub(crate) fn touch(&mut self) {
        self.stale = true;
    }

    /// Looks, if it is time.
    pub(crate) fn look(&mut self, look: impl FnOnce()) {
        let began = Instant::now();
        if self.look_from.is_none_or(|from| from <= began) {
            look();
            let took = began.elapsed().max(LOOK_MIN);
            *self = Agenda { stale: false, look_from: Some(began + took * LOOK_SHARE) };
        }
    }

    /// How long to sleep at `now` if nothing happens before `next`; bounded by `longest`, because the clock may be set and
    /// machines may be suspended.
    pub(crate) fn pause(&self, now: Timestamp, next: Option<Timestamp>, longest: Duration) -> Duration {
        let left = next.map(|next| next.duration_since(now));
        let left = left.map_or(longest, |left| Duration::try_from(left).unwrap_or(Duration::ZERO));
        let soon = self.look_from.filter(|_| self.stale).map(|from| from.saturating_duration_since(Instant::now()));
        left.min(soon.unwrap_or(longest)).clamp(Duration::from_millis(10), longest.max(Duration::from_millis(10)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    #[test]
    fn long_looks_are_rare() {
        let mut agenda = Agenda::default();
        agenda.look(|| std::thread::sleep(Duration::from_millis(20)));
        agenda.touch();
        agenda.look(|| unreachable!("it is too soon"));
        let pause = agenda.pause(Timestamp::now(), None, LONGEST);
        assert!(pause > Duration::from_millis(100) && pause < LONGEST, "{pause:?}");
    }
}
