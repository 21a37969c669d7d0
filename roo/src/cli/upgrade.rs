//! `roo upgrade`.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, output};

/// How long the next process may take; the one before gives it as much, and then starts another.
const TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize)]
struct Begun {
    process: u32,
    version: String,
}

pub(super) async fn run(client: &ClientArgs) -> Result<(), Failure> {
    let body = client.send(Method::POST, "/roo/v1/upgrade", Bytes::new()).await?;
    let begun: Begun = serde_json::from_slice(&body)
        .map_err(|error| Failure::Failed(format!("the node's answer is not understood: {error}")))?;
    let Ok(status) = tokio::time::timeout(TIMEOUT, replaced(client, begun.process)).await else {
        return Err(Failure::Failed(format!(
            "no other process has taken over within {} s; look at the node's log",
            TIMEOUT.as_secs()
        )));
    };
    let version = status["version"].as_str().unwrap_or_default();
    if version != begun.version {
        return Err(Failure::Failed(format!(
            "version {} did not get ready; version {version} goes on; look at the node's log",
            begun.version
        )));
    }
    if client.json {
        output::json(&status);
    } else {
        println!("process {} serves as version {version}, process {} ends", status["process"], begun.process);
    }
    Ok(())
}

/// The status of the process that has taken over from `former`, once it is ready.
async fn replaced(client: &ClientArgs, former: u32) -> Value {
    loop {
        if let Ok(status) = client.json::<Value>("/roo/v1/status").await
            && status["process"] != former
            && status["state"] == "ready"
        {
            return status;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
