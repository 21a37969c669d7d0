//! The time of day in lines, spelled once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::AccessFormat;

/// Turns moments into the time of day.
pub(super) struct Clock {
    format: AccessFormat,
    /// The same moment on both clocks.
    base: RefCell<(Instant, Duration)>,
    /// The second that was spelled last.
    spelled: RefCell<(u64, String)>,
}

impl Clock {
    pub(super) fn new(format: AccessFormat) -> Clock {
        Clock { format, base: RefCell::new(now()), spelled: RefCell::default() }
    }

    /// Follows the system's clock, which somebody may set.
    pub(super) fn adjust(&self) {
        self.base.replace(now());
    }

    /// Appends a moment as lines of this format have it.
    pub(super) fn write(&self, out: &mut Vec<u8>, moment: Instant) {
        let (base, at) = *self.base.borrow();
        let since =
            (at + moment.saturating_duration_since(base)).saturating_sub(base.saturating_duration_since(moment));
        let seconds = since.as_secs();
        let mut spelled = self.spelled.borrow_mut();
        if spelled.0 != seconds || spelled.1.is_empty() {
            *spelled = (seconds, self.spell(seconds));
        }
        out.extend_from_slice(spelled.1.as_bytes());
        if self.format == AccessFormat::Json {
            let digit = |number: u32| b'0' + (number % 10) as u8;
            let millis = since.subsec_millis();
            out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
        }
    }

    fn spell(&self, seconds: u64) -> String {
        let second = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let time = second.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
        let pattern = match self.format {
            AccessFormat::Json => "%Y-%m-%dT%H:%M:%S",
            AccessFormat::Combined => "%d/%b/%Y:%H:%M:%S +0000",
        };
        time.strftime(pattern).to_string()
    }
}

fn now() -> (Instant, Duration) {
    (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_moment_is_spelled_in_each_format() {
        let spelled = |format, after: u64| {
            let clock = Clock::new(format);
            let base = Instant::now();
            clock.base.replace((base, Duration::from_millis(1_761_000_000_042)));
            let mut out = Vec::new();
            clock.write(&mut out, base + Duration::from_millis(after));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(spelled(AccessFormat::Json, 0), "2025-10-20T22:40:00.042Z");
        assert_eq!(spelled(AccessFormat::Json, 1_000), "2025-10-20T22:40:01.042Z");
        assert_eq!(spelled(AccessFormat::Combined, 0), "20/Oct/2025:22:40:00 +0000");
    }
}
