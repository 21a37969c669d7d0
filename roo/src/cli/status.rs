//! `roo status`.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, output};

pub(super) async fn run(client: &ClientArgs) -> Result<(), Failure> {
    let status: Value = client.json("/roo/v1/status").await?;
    if client.json {
        output::json(&status);
        return Ok(());
    }
    let at = |pointer: &str| match status.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => output::printable(text),
        Some(other) => other.to_string(),
    };
    let mut lines = Vec::new();
    for (name, pointer) in [
        ("node", "/node"),
        ("version", "/version"),
        ("state", "/state"),
        ("waiting for", "/waiting_for"),
        ("cluster", "/cluster"),
        ("role", "/role"),
        ("leader", "/leader"),
        ("term", "/term"),
        ("revision", "/revision"),
        ("routes", "/routes"),
        ("certificates", "/certificates"),
        ("connections", "/connections"),
        ("swarm", "/swarm/state"),
    ] {
        let value = at(pointer);
        if value != "-" {
            lines.push(vec![format!("{name}:"), value]);
        }
    }
    lines.extend(disk(&status).map(|text| vec!["disk:".to_owned(), text]));
    lines.extend(ports_failed(&status).map(|text| vec!["no port:".to_owned(), text]));
    let count = |name: &str| status.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let nodes = format!("{}: {} vote, {} follow", count("nodes"), count("voters"), count("learners"));
    lines.push(vec!["nodes:".to_owned(), nodes]);
    for line in lines {
        println!("{:<14}{}", line[0], line[1]);
    }
    for node in status.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        println!("  {}", member(node));
    }
    Ok(())
}

/// The ports that routes name and that are not listened on, each with the reason.
fn ports_failed(status: &Value) -> impl Iterator<Item = String> {
    status.pointer("/ports/failed").and_then(Value::as_array).into_iter().flatten().map(|fault| {
        let text = |name: &str| fault.get(name).and_then(Value::as_str).map(output::printable).unwrap_or_default();
        format!("{} for {}: {}", text("address"), text("listener"), text("error"))
    })
}

fn disk(status: &Value) -> Option<String> {
    let part = |name: &str| status.pointer(&format!("/disk/{name}"))?.as_u64().map(bytes);
    let last =
        status.pointer("/last_snapshot/index").map_or("none yet".to_owned(), |index| format!("at entry {index}"));
    Some(format!("log {}, state {}, snapshots {} ({last})", part("log")?, part("state")?, part("snapshots")?))
}

/// A member in a line: who, where, its part, and what is the matter with it.
fn member(node: &Value) -> String {
    let text = |name: &str| node.get(name).and_then(Value::as_str).map(output::printable).unwrap_or_default();
    let mut line = format!("{}  {}  {}", text("id"), text("address"), text("role"));
    if node["held"] == true {
        line.push_str(", held");
    }
    if let Some(behind) = node["behind"].as_u64().filter(|behind| *behind > 0) {
        let _ = write!(line, ", {behind} entries behind");
    }
    if node["state"] == "unreachable" {
        line.push_str(", silent");
        let seconds = node["last_heard"].as_u64().map(|at| now().saturating_sub(at) / 1000);
        if let Some(seconds) = seconds {
            let _ = write!(line, " for {seconds} s");
        }
    }
    line
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut rest = count;
    while rest >= 10 * 1024 && unit < 3 {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", ["B", "KiB", "MiB", "GiB"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_is_told_with_what_is_the_matter() {
        let node = json!({ "id": "00ab", "address": "10.0.0.1:6300", "role": "learner", "state": "reachable",
            "held": true, "behind": 7 });
        assert_eq!(member(&node), "00ab  10.0.0.1:6300  learner, held, 7 entries behind");
        let node = json!({ "id": "00ab", "address": "a:1", "role": "voter", "state": "unreachable", "behind": 0 });
        assert_eq!(member(&node), "00ab  a:1  voter, silent");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([bytes(0), bytes(10_239), bytes(10_240), bytes(64 << 20)], ["0 B", "10239 B", "10 KiB", "64 MiB"]);
    }
}
