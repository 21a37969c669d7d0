//! `roo cert ls`.

use clap::{Args, Subcommand};

use super::Failure;
use super::client::ClientArgs;

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
    let columns =
        [("NAME", "name"), ("STATE", "state"), ("ISSUER", "issuer"), ("NOT AFTER", "not_after"), ("NOTE", "note")];
    noun.client.list("/roo/v1/certs", &columns).await
}
