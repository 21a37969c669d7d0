//! `roo cert account rollover`.

use bytes::Bytes;
use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::{ClientArgs, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Give the cluster's accounts at all CAs other keys
    Rollover,
}

pub(super) async fn run(client: &ClientArgs, Verb::Rollover: &Verb) -> Result<(), Failure> {
    let answer = client.send(Method::POST, "/roo/v1/accounts/rollover", Bytes::new()).await?;
    let changed: Value = serde_json::from_slice(&answer).unwrap_or_default();
    if client.json {
        println!("{changed}");
        return Ok(());
    }
    for account in changed["accounts"].as_array().into_iter().flatten() {
        println!("changed the key of {}", account.as_str().unwrap_or_default());
    }
    Ok(())
}
