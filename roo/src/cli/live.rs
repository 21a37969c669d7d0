//! `roo connection ls`, `roo upstream ls`.

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
    /// List them as they are right now on this node
    Ls {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
}

pub(super) async fn connections(noun: &Noun) -> Result<(), Failure> {
    let Verb::Ls { limit } = noun.verb;
    let columns = [
        ("PEER", "peer"),
        ("LISTENER", "listener"),
        ("PROTOCOL", "protocol"),
        ("TLS", "tls"),
        ("STATE", "state"),
        ("AGE", "age_seconds"),
        ("REQUESTS", "requests"),
        ("IN", "received_bytes"),
        ("OUT", "sent_bytes"),
        ("ROUTE", "route"),
    ];
    noun.client.list(&format!("/roo/v1/connections?limit={limit}"), &columns).await
}

pub(super) async fn upstreams(noun: &Noun) -> Result<(), Failure> {
    let Verb::Ls { limit } = noun.verb;
    let columns = [
        ("ROUTE", "route"),
        ("UPSTREAM", "upstream"),
        ("ADDRESS", "address"),
        ("STATE", "state"),
        ("ACTIVE", "active"),
        ("IDLE", "idle"),
        ("CAUSE", "cause"),
        ("OUT FOR", "out_seconds"),
    ];
    noun.client.list(&format!("/roo/v1/upstreams?limit={limit}"), &columns).await
}
