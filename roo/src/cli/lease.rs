//! `roo lease grant|keepalive|revoke|ls|show`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, escape};
use super::{Failure, kv, output};

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a lease and print its id
    Grant {
        /// How long it lives without a keep-alive: 30s, 5m, or bare seconds
        ttl: String,
    },
    /// Let a lease live for its whole time again
    Keepalive { id: String },
    /// End a lease and delete its keys
    Revoke { id: String },
    /// List the leases
    Ls,
    /// Print how long a lease lives yet, and its keys
    Show { id: String },
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    match &noun.verb {
        Verb::Grant { ttl } => {
            let body = Bytes::from(json!({ "ttl": ttl }).to_string());
            let granted = client.send(Method::POST, "/roo/v1/leases", body).await?;
            if client.json {
                return kv::confirm(client, &granted);
            }
            println!("{}", output::cell(&parsed(&granted)?["id"]));
            Ok(())
        }
        Verb::Keepalive { id } => {
            let path = format!("{}/keepalive", path(id));
            kv::confirm(client, &client.send(Method::POST, &path, Bytes::new()).await?)
        }
        Verb::Revoke { id } => kv::confirm(client, &client.send(Method::DELETE, &path(id), Bytes::new()).await?),
        Verb::Ls => ls(client).await,
        Verb::Show { id } => {
            let lease: Value = client.json(&format!("{}?keys=1", path(id))).await?;
            if client.json {
                output::json(&lease);
                return Ok(());
            }
            let row = ["id", "ttl", "left", "keys"].map(|name| output::cell(&lease[name]));
            output::table(&["ID", "TTL", "LEFT", "KEYS"], &[row.to_vec()]);
            Ok(())
        }
    }
}

fn path(id: &str) -> String {
    format!("/roo/v1/leases/{}", escape(id))
}

/// All leases, page by page.
async fn ls(client: &ClientArgs) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Value = client.json(&format!("/roo/v1/leases?limit=1000&cursor={cursor}")).await?;
        all.extend(page["leases"].as_array().into_iter().flatten().cloned());
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    if client.json {
        output::json(&Value::Array(all));
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        all.iter().map(|lease| ["id", "ttl"].map(|name| output::cell(&lease[name])).to_vec()).collect();
    output::table(&["ID", "TTL"], &rows);
    Ok(())
}

fn parsed(answer: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(answer)
        .map_err(|error| Failure::Failed(format!("the answer is no JSON that this version knows: {error}")))
}
