//! `roo status`.

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
    for line in lines {
        println!("{:<14}{}", line[0], line[1]);
    }
    let nodes = status.get("nodes").and_then(Value::as_array).map_or(0, Vec::len);
    println!("{:<14}{nodes}", "nodes:");
    Ok(())
}
