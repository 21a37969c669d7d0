//! Durations as a route document has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{RouteError, shortened};

/// `"30s"`, or bare seconds as text or number.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a duration must be text such as \"30s\" or a number of seconds")]
pub(super) enum DurationText {
    Text(String),
    Seconds(u64),
}

pub(super) fn parse_duration(field: &'static str, value: Option<DurationText>) -> Result<Option<Duration>, RouteError> {
    let text = match value {
        None => return Ok(None),
        Some(DurationText::Text(text)) => text,
        Some(DurationText::Seconds(seconds)) => seconds.to_string(),
    };
    match duration(&text) {
        Some(duration) if !duration.is_zero() && duration <= DURATION_MAX => Ok(Some(duration)),
        _ => Err(RouteError::Duration { field, text: shortened(&text) }),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

pub(super) fn duration_text(duration: Duration) -> DurationText {
    // Below a millisecond nothing is meant; zero would not parse.
    DurationText::Text(format!("{}ms", duration.as_millis().max(1)))
}

const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
