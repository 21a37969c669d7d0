//! `roo ca root`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;

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
    /// Print the root certificate in PEM form
    Root,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let Verb::Root = noun.verb;
    let pem = noun.client.send(Method::GET, "/roo/v1/ca", Bytes::new()).await?;
    print!("{}", String::from_utf8_lossy(&pem));
    Ok(())
}
