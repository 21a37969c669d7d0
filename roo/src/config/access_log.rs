//! The settings of the access log.

use std::path::PathBuf;

use roo_proxy::{AccessFormat, AccessLog, AccessOnly, AccessTo};

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
    let share = |text: &str| text.trim().parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share));
    match (text, text.strip_suffix('%').and_then(share)) {
        ("all", _) => Ok(AccessOnly::All),
        ("errors", _) => Ok(AccessOnly::Errors),
        // Of a million, as the log counts.
        (_, Some(percent)) => Ok(AccessOnly::Sample((percent * 10_000.0).round() as u32)),
        _ => Err(format!("`{text}` is neither all nor errors nor a share such as 1%, 0% to 100%")),
    }
}
