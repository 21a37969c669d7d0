//! `roo ca root|api`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;

use super::Failure;
use super::client::ClientArgs;
use crate::api_ca::ApiCa;
use crate::config::{Process, present_secret};

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the root of the internal CA in PEM form, as a node has it
    Root,
    /// Print the root of the API's certificates in PEM form, as it follows from the secret; asks no node
    Api,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    match noun.verb {
        Verb::Root => {
            let pem = noun.client.send(Method::GET, "/roo/v1/ca", Bytes::new()).await?;
            print!("{}", String::from_utf8_lossy(&pem));
        }
        Verb::Api => {
            let secret = present_secret(&noun.client.flags(), &Process).map_err(Failure::Usage)?;
            print!("{}", ApiCa::of(&secret).map_err(|error| Failure::Failed(error.to_string()))?.pem());
        }
    }
    Ok(())
}
