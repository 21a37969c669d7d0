//! `roo cert ls`, `roo cert client add|ls|rm`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::Failure;
use super::client::{ClientArgs, escape};

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
    /// Certificates that services are shown: a route names one as tls.client_certificate
    #[command(subcommand)]
    Client(ClientVerb),
}

#[derive(Debug, Subcommand)]
enum ClientVerb {
    /// Store a certificate and its key, in place of a former one of the name
    Add {
        /// Letters, digits, dots, dashes and underscores
        name: String,
        /// The certificate and those above it, in PEM
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// Its private key, in PEM
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// List them, without their keys
    Ls,
    /// Remove one
    Rm { name: String },
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    let Verb::Client(verb) = &noun.verb else {
        let columns =
            [("NAME", "name"), ("STATE", "state"), ("ISSUER", "issuer"), ("NOT AFTER", "not_after"), ("NOTE", "note")];
        return client.list("/roo/v1/certs", &columns).await;
    };
    let path = |name: &str| format!("/roo/v1/client-certificates/{}", escape(name));
    let answer = match verb {
        ClientVerb::Ls => {
            let columns = [("NAME", "name"), ("ISSUER", "issuer"), ("NOT AFTER", "not_after"), ("SERIAL", "serial")];
            return client.list("/roo/v1/client-certificates", &columns).await;
        }
        ClientVerb::Add { name, cert, key } => {
            let pair = json!({ "certificate": read(cert)?, "key": read(key)? });
            client.send(Method::PUT, &path(name), Bytes::from(pair.to_string())).await?
        }
        ClientVerb::Rm { name } => client.send(Method::DELETE, &path(name), Bytes::new()).await?,
    };
    super::kv::confirm(client, &answer)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Failed(format!("can't read {}: {error}", path.display())))
}
