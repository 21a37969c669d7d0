//! `roo cert show`.

use serde_json::Value;

use super::{ClientArgs, Failure, output, path};

/// What is told, in this order; what is not known has no line.
const LINES: [(&str, &str); 20] = [
    ("name", "name"),
    ("state", "state"),
    ("names", "names"),
    ("routes", "routes"),
    ("source", "source"),
    ("managed", "managed"),
    ("issuer", "issuer"),
    ("serial", "serial"),
    ("key", "key"),
    ("SHA-256", "fingerprint_sha256"),
    ("second", "second"),
    ("not before", "not_before"),
    ("not after", "not_after"),
    ("renewal", "renew_at"),
    ("revoked", "revoked"),
    ("asked", "asked"),
    ("next try", "next_try"),
    ("waits", "waits"),
    ("last error", "last_error"),
    ("failed at", "last_error_at"),
];

pub(super) async fn run(client: &ClientArgs, name: &str) -> Result<(), Failure> {
    let shown: Value = client.json(&path(name)).await?;
    if client.json {
        output::json(&shown);
        return Ok(());
    }
    let line = |title: &str, value: &Value| {
        let text = text(value);
        if !text.is_empty() {
            println!("{:<12}{}", format!("{title}:"), output::printable(&text));
        }
    };
    for (title, field) in LINES {
        line(title, &shown[field]);
    }
    for (title, value) in shown["probe"].as_object().into_iter().flatten() {
        line(title, value);
    }
    Ok(())
}

/// A value in one line; the fields of an object as name and value.
fn text(value: &Value) -> String {
    match value.as_object() {
        Some(fields) => {
            let known = fields.iter().filter(|(_, value)| !value.is_null());
            known.map(|(name, value)| format!("{name} {}", text(value))).collect::<Vec<_>>().join(", ")
        }
        None => output::cell(value),
    }
}
