//! `roo route ls|add|rm`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use roo_proxy::Origin;
use serde_json::Value;

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
    /// List the routes
    Ls,
    /// Add or replace a route
    Add {
        /// host, host:scheme or host:port:scheme; the scheme is https where none is written
        origin: String,
        /// URLs of the destinations, used in turn
        #[arg(required = true)]
        to: Vec<String>,
    },
    /// Remove a route
    Rm {
        /// As in add
        origin: String,
    },
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    match &noun.verb {
        Verb::Ls => ls(&noun.client).await,
        Verb::Add { origin, to } => {
            let value = match to.as_slice() {
                [one] => one.clone(),
                several => serde_json::json!({ "to": several }).to_string(),
            };
            write(&noun.client, Method::PUT, origin, Bytes::from(value)).await
        }
        Verb::Rm { origin } => write(&noun.client, Method::DELETE, origin, Bytes::new()).await,
    }
}

async fn ls(client: &ClientArgs) -> Result<(), Failure> {
    let routes: Value = client.json("/roo/v1/routes").await?;
    if client.json {
        output::json(&routes);
        return Ok(());
    }
    let text = |route: &Value, name: &str| route.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = routes
        .as_array()
        .into_iter()
        .flatten()
        .map(|route| {
            let to = route.get("to").and_then(Value::as_array).into_iter().flatten();
            let to = to.filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
            vec![text(route, "origin"), to, text(route, "source"), text(route, "error")]
        })
        .collect();
    output::table(&["ORIGIN", "TO", "SOURCE", "ERROR"], &rows);
    Ok(())
}

async fn write(client: &ClientArgs, method: Method, origin: &str, body: Bytes) -> Result<(), Failure> {
    let origin = origin_of(origin)?;
    let path = format!("/roo/v1/kv/{}", escape(crate::keys::route(&origin).as_str()));
    kv::confirm(client, &client.send(method, &path, body).await?)
}

/// Reads an origin; without a scheme it is https.
fn origin_of(text: &str) -> Result<Origin, Failure> {
    let full =
        if text.ends_with(":http") || text.ends_with(":https") { text.to_owned() } else { format!("{text}:https") };
    full.parse().map_err(|error| Failure::Usage(format!("{error}")))
}
