//! `roo node ls`.

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
    /// List the nodes of the cluster
    Ls,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let Verb::Ls = noun.verb;
    let columns = [("ID", "id"), ("RAFT ADDRESS", "address"), ("ROLE", "role"), ("STATE", "state")];
    noun.client.list("/roo/v1/nodes", &columns).await
}
