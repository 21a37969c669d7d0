//! `roo route ls|add|rm|explain`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use roo_proxy::Origin;
use serde_json::{Map, json};

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
        /// Let in clients alone that show a certificate signed by one of this file
        #[arg(long, value_name = "FILE")]
        client_ca: Option<PathBuf>,
        /// The oldest version of TLS that clients may speak
        #[arg(long, value_name = "VERSION", value_parser = ["1.2", "1.3"])]
        min_tls: Option<String>,
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
        Verb::Add { origin, to, client_ca, min_tls } => {
            let value = match (to.as_slice(), client_ca, min_tls) {
                ([one], None, None) => one.clone(),
                _ => document(to, client_ca.as_deref(), min_tls.as_deref())?,
            };
            write(&noun.client, Method::PUT, origin, Bytes::from(value)).await
        }
        Verb::Explain { url } => explain::run(&noun.client, url).await,
        Verb::Rm { origin } => write(&noun.client, Method::DELETE, origin, Bytes::new()).await,
    }
}

/// The document of a route that says more than a URL can.
fn document(to: &[String], client_ca: Option<&Path>, min_tls: Option<&str>) -> Result<String, Failure> {
    let mut client_tls = Map::new();
    if let Some(file) = client_ca {
        let pem = std::fs::read_to_string(file)
            .map_err(|error| Failure::Failed(format!("can't read {}: {error}", file.display())))?;
        client_tls.insert("ca".to_owned(), pem.into());
    }
    if let Some(version) = min_tls {
        client_tls.insert("min_version".to_owned(), version.into());
    }
    Ok(json!({ "to": to, "client_tls": client_tls }).to_string())
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
