//! `roo cert ls|show|renew|revoke|import|export|rm`, `roo cert account rollover`, `roo cert client add|ls|rm`.

mod account;
mod client;
mod files;
mod migrate;
mod show;
mod wish;

use std::path::Path;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;

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
    /// List certificates, and names that still wait for one
    Ls,
    /// Tell all that is known about the certificate of a name
    Show {
        /// The name of a host, or a wildcard
        name: String,
    },
    /// Order another certificate now, whatever failed before, and wait for it for as long as --timeout says
    Renew(wish::Renew),
    /// Have a certificate revoked by the CA that signed it, and order another one
    Revoke(wish::Revoke),
    /// Bring in a certificate of your own, under all names it is for, or take over those of another program
    Import(files::Import),
    /// Write a certificate with its private key to files, or print them; the token must have been made with --export
    Export(files::Export),
    /// Remove a certificate; a name that has a route gets another one
    Rm {
        /// As `roo cert ls` shows it
        name: String,
    },
    /// The cluster's accounts at CAs
    #[command(subcommand)]
    Account(account::Verb),
    /// Certificates that services are shown: a route names one as tls.client_certificate
    #[command(subcommand)]
    Client(client::Verb),
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    match &noun.verb {
        Verb::Ls => {
            let columns = [
                ("NAME", "name"),
                ("STATE", "state"),
                ("ISSUER", "issuer"),
                ("NOT AFTER", "not_after"),
                ("NOTE", "note"),
            ];
            client.list("/roo/v1/certs", &columns).await
        }
        Verb::Show { name } => show::run(client, name).await,
        Verb::Renew(args) => wish::renew(client, args).await,
        Verb::Revoke(args) => wish::revoke(client, args).await,
        Verb::Import(args) => files::import(client, args).await,
        Verb::Export(args) => files::export(client, args).await,
        Verb::Rm { name } => kv::confirm(client, &client.send(Method::DELETE, &path(name), Bytes::new()).await?),
        Verb::Account(verb) => account::run(client, verb).await,
        Verb::Client(verb) => client::run(client, verb).await,
    }
}

/// Where the API has the certificate of `name`.
fn path(name: &str) -> String {
    format!("/roo/v1/certs/{}", escape(name))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Failed(format!("can't read {}: {error}", path.display())))
}
