//! `roo secret rotate|status|finish|show`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use roo_kv::Secret;
use serde_json::{Value, json};

use super::client::ClientArgs;
use super::{Failure, output};
use crate::config::{Process, present_secret};
use crate::keys;

/// Between looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Move the running cluster to a new secret; the former one is accepted until `roo secret finish`
    Rotate {
        /// A file with the new secret; if there is none, a secret is made and kept there
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Do not wait for members that can't be reached: they need the new secret to come back
        #[arg(long)]
        force: bool,
    },
    /// Tell how far it is
    Status,
    /// Accept the former secret no more
    Finish,
    /// Print the secret that a node with this data directory goes by
    Show,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let present = || present_secret(&noun.client.flags(), &Process).map_err(Failure::Usage);
    let mut client = noun.client.clone();
    if !client.has_token()? {
        client.give_token(present()?.api_token());
    }
    match &noun.verb {
        Verb::Show => println!("{}", *present()?.reveal()),
        Verb::Status => {
            let report: Value = client.json("/roo/v1/secret").await?;
            if client.json {
                output::json(&report);
            } else {
                for name in ["current", "phase", "from", "to", "waiting_for"] {
                    let cell = report.get(name).map(output::cell).unwrap_or_default();
                    println!("{:<13}{cell}", format!("{name}:").replace('_', " "));
                }
            }
        }
        Verb::Finish => {
            client.send(Method::POST, "/roo/v1/secret/finish", Bytes::new()).await?;
            println!("The former secret is accepted for a few seconds more.");
        }
        Verb::Rotate { to, force } => rotate(&client, &present()?, to, *force).await?,
    }
    Ok(())
}

async fn rotate(client: &ClientArgs, present: &Secret, to: &std::path::Path, force: bool) -> Result<(), Failure> {
    let next = Secret::load_or_create(to).map_err(|error| Failure::Usage(format!("--to: {error}")))?;
    let sealed = present.sealer().seal(keys::SECRET, next.reveal().as_bytes());
    let sealed = sealed.map_err(|error| Failure::Failed(error.to_string()))?;
    let body = json!({ "next": STANDARD.encode(sealed), "force": force }).to_string();
    client.send(Method::POST, "/roo/v1/secret", Bytes::from(body)).await?;
    let mut told = String::new();
    loop {
        let report: Value = client.json("/roo/v1/secret").await?;
        let phase = report.get("phase").and_then(Value::as_str).unwrap_or_default();
        if phase == "overlap" {
            break;
        }
        let waiting_for = report.get("waiting_for").map(output::cell).unwrap_or_default();
        let line = format!("{phase}: waiting for {waiting_for}");
        if line != told && !waiting_for.is_empty() {
            eprintln!("{line}");
        }
        told = line;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!("Every node goes by the new secret, and still accepts the former one.");
    println!("Put {} in its place wherever the secret is configured, then: roo secret finish", to.display());
    Ok(())
}
