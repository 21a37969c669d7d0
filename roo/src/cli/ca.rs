//! `roo ca`, `roo ca root|api`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;

use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, output};
use crate::api_ca::ApiCa;
use crate::config::{Process, present_secret};

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
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
        None => show(&noun.client).await?,
        Some(Verb::Root) => {
            let pem = noun.client.send(Method::GET, "/roo/v1/ca", Bytes::new()).await?;
            print!("{}", String::from_utf8_lossy(&pem));
        }
        Some(Verb::Api) => {
            let secret = present_secret(&noun.client.flags(), &Process).map_err(Failure::Usage)?;
            print!("{}", ApiCa::of(&secret).map_err(|error| Failure::Failed(error.to_string()))?.pem());
        }
    }
    Ok(())
}

/// Tells about the internal CA.
async fn show(client: &ClientArgs) -> Result<(), Failure> {
    let facts: Value = client.json("/roo/v1/ca/facts").await?;
    if client.json {
        output::json(&facts);
        return Ok(());
    }
    let row = |part: &str| {
        let certificate = facts.get(part)?.as_object()?;
        let fields = ["subject", "not_before", "not_after", "serial"];
        let cells = fields.iter().map(|field| certificate.get(*field).map(output::cell).unwrap_or_default());
        Some(std::iter::once(part.to_owned()).chain(cells).collect::<Vec<_>>())
    };
    let rows: Vec<Vec<String>> = ["root", "intermediate"].into_iter().filter_map(row).collect();
    output::table(&["PART", "SUBJECT", "NOT BEFORE", "NOT AFTER", "SERIAL"], &rows);
    Ok(())
}
