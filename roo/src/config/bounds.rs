//! What clients and destinations may use: numbers and times.

use std::ops::RangeInclusive;
use std::time::Duration;

use roo_proxy::{Limits, Timeouts};

use super::{Reader, duration};

/// Longer than that is a mistake.
const TIME_MAX: Duration = Duration::from_hours(7 * 24);
/// From one request, or all of what it buffers, no more than that.
const HEADER_BYTES: RangeInclusive<usize> = 1_024..=1_048_576;
const CONNECTIONS: RangeInclusive<usize> = 1..=10_000_000;

pub(super) fn limits(reader: &mut Reader<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        connections: reader.read("connections", |text| count(text, CONNECTIONS)).unwrap_or(default.connections),
        header_bytes: reader.read("header-bytes", |text| count(text, HEADER_BYTES)).unwrap_or(default.header_bytes),
        ..default
    }
}

pub(super) fn timeouts(reader: &mut Reader<'_>) -> Timeouts {
    let default = Timeouts::default();
    let mut read = |name, default| reader.read(name, timeout).unwrap_or(default);
    Timeouts {
        header: read("header-timeout", default.header),
        idle: read("idle-timeout", default.idle),
        body: read("body-timeout", default.body),
        tunnel: read("tunnel-timeout", default.tunnel),
        connect: read("connect-timeout", default.connect),
        response: read("response-timeout", default.response),
        ..default
    }
}

fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if range.contains(&count) => Ok(count),
        _ => Err(format!("`{text}` is no number from {} to {}", range.start(), range.end())),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time.is_zero() => Err("0 would end everything at once; write a time such as 30s".to_owned()),
        time if time > TIME_MAX => Err(format!("`{text}` is longer than 7d")),
        time => Ok(time),
    }
}
