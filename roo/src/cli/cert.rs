//! `roo cert ls`.

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
    /// List certificates, and names that still wait for one
    Ls,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let Verb::Ls = noun.verb;
    let certs: Value = noun.client.json("/roo/v1/certs").await?;
    if noun.client.json {
        output::json(&certs);
        return Ok(());
    }
    let text = |cert: &Value, name: &str| cert.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = certs
        .as_array()
        .into_iter()
        .flatten()
        .map(|cert| ["name", "state", "issuer", "not_after", "note"].iter().map(|name| text(cert, name)).collect())
        .collect();
    output::table(&["NAME", "STATE", "ISSUER", "NOT AFTER", "NOTE"], &rows);
    Ok(())
}
