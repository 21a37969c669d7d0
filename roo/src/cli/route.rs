//! `roo route ls|add|rm|explain`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use roo_proxy::Origin;

use super::client::{ClientArgs, escape};
use super::{Failure, explain, kv};

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
    /// Tell what would become of a request on a node, and why
    Explain {
        /// A URL, or a host, which is then asked for by https
        url: String,
    },
    /// Remove a route
    Rm {
        /// As in add
        origin: String,
    },
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    match &noun.verb {
        Verb::Ls => {
            let columns = [("ORIGIN", "origin"), ("TO", "to"), ("SOURCE", "source"), ("ERROR", "error")];
            noun.client.list("/roo/v1/routes", &columns).await
        }
        Verb::Add { origin, to } => {
            let value = match to.as_slice() {
                [one] => one.clone(),
                several => serde_json::json!({ "to": several }).to_string(),
            };
            write(&noun.client, Method::PUT, origin, Bytes::from(value)).await
        }
        Verb::Explain { url } => explain::run(&noun.client, url).await,
        Verb::Rm { origin } => write(&noun.client, Method::DELETE, origin, Bytes::new()).await,
    }
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
