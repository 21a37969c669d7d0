//! `roo node ls`.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, output};

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the nodes of the cluster
    Ls,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let Verb::Ls = noun.verb;
    let nodes: Value = noun.client.json("/roo/v1/nodes").await?;
    if noun.client.json {
        output::json(&nodes);
        return Ok(());
    }
    let text = |node: &Value, name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = nodes
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| ["id", "address", "role", "state"].iter().map(|name| text(node, name)).collect())
        .collect();
    output::table(&["ID", "RAFT ADDRESS", "ROLE", "STATE"], &rows);
    Ok(())
}
