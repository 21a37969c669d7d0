//! The settings of what is told of requests: the access log, trace context.

use std::path::PathBuf;

use roo_proxy::{AccessFormat, AccessLog, AccessOnly, AccessTo, TraceContext};

use super::Reader;

/// Reads them all; what is given without a place to write to is checked all the same.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<AccessLog> {
    let to = reader.read("access-log", to).flatten();
    let format = reader.read("access-log-format", format).unwrap_or(AccessFormat::Json);
    let only = reader.read("access-log-only", only).unwrap_or(AccessOnly::All);
    Some(AccessLog { to: to?, format, only, node: "".into() })
}

fn to(text: &str) -> Result<Option<AccessTo>, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "false" | "no" => Ok(None),
        "stdout" => Ok(Some(AccessTo::Stdout)),
        "on" | "true" | "yes" | "stderr" => {
            Err(format!("`{text}` is no place; write stdout, off, or the path of a file"))
        }
        _ => Ok(Some(AccessTo::File(PathBuf::from(text)))),
    }
}

fn format(text: &str) -> Result<AccessFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "json" => Ok(AccessFormat::Json),
        "clf" | "combined" => Ok(AccessFormat::Combined),
        _ => Err(format!("`{text}` is no format; write json or clf")),
    }
}

fn only(text: &str) -> Result<AccessOnly, String> {
    match (text, share(text)) {
        ("all", _) => Ok(AccessOnly::All),
        ("errors", _) => Ok(AccessOnly::Errors),
        (_, Some(share)) => Ok(AccessOnly::Sample(share)),
        _ => Err(format!("`{text}` is neither all nor errors nor a share such as 1%, 0% to 100%")),
    }
}

/// Reads what becomes of trace context.
pub(super) fn trace(text: &str) -> Result<TraceContext, String> {
    match (text.to_ascii_lowercase().as_str(), share(text)) {
        ("off" | "false" | "no", _) => Ok(TraceContext::AsIs),
        (_, Some(sampled)) => Ok(TraceContext::TakePart { sampled }),
        _ => Err(format!("`{text}` is neither off nor a share such as 10%, 0% to 100%")),
    }
}

/// A share such as `1%`, of a million.
fn share(text: &str) -> Option<u32> {
    let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then(|| (percent * 10_000.0).round() as u32)
}
