//! `roo token`, `roo token add|ls|rm`.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::Failure;
use super::client::{self, ClientArgs, escape};
use super::output;
use crate::config::{Process, api_token, data_dir_token};

#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The shared secret [env: ROO_SECRET, ROO_SECRET_FILE]
    #[arg(long, value_name = "TEXT")]
    secret: Option<String>,
    /// Where the node keeps its data, for a node that made its own secret [env: ROO_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token for keys that begin with certain prefixes and print it; it is not shown again
    Add {
        /// Letters, digits, dots, dashes and underscores
        name: String,
        /// What the keys begin with that it may read; '' for all
        #[arg(long, value_name = "PREFIX", num_args = 1..)]
        read: Vec<String>,
        /// What the keys begin with that it may write and delete; '' for all
        #[arg(long, value_name = "PREFIX", num_args = 1..)]
        write: Vec<String>,
        /// It may do everything but export private keys
        #[arg(long)]
        admin: bool,
        /// It may export certificates with their private keys; only the token of the secret makes such a one
        #[arg(long)]
        export: bool,
        /// How long it is valid: 30d, 12h [default: until it is removed]
        #[arg(long, value_name = "TIME")]
        ttl: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List tokens by name, and what they may do
    Ls(ClientArgs),
    /// Remove a token
    Rm {
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.verb {
        None => print_root(args),
        Some(verb) => client::block_on(call(verb)),
    }
}

/// Prints the token that follows from the secret.
fn print_root(args: &Args) -> Result<(), Failure> {
    let mut flags = BTreeMap::new();
    flags.extend(args.secret.clone().map(|text| ("secret".to_owned(), text)));
    flags.extend(args.data_dir.clone().map(|text| ("data-dir".to_owned(), text)));
    let token = match api_token(&flags, &Process).map_err(Failure::Usage)? {
        Some(token) => token,
        None => data_dir_token(&flags, &Process).map_err(Failure::Failed)?,
    };
    println!("{token}");
    Ok(())
}

async fn call(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Add { name, read, write, admin, export, ttl, client } => {
            let wanted = json!({
                "name": name, "read": read, "write": write, "admin": admin, "export": export, "ttl": ttl,
            });
            let answer = client.send(Method::POST, "/roo/v1/tokens", Bytes::from(wanted.to_string())).await?;
            let made: Value = serde_json::from_slice(&answer).unwrap_or_default();
            if client.json {
                output::json(&made);
            } else {
                println!("{}", made.get("token").and_then(Value::as_str).unwrap_or_default());
            }
            Ok(())
        }
        Verb::Ls(client) => {
            let columns = [
                ("NAME", "name"),
                ("READ", "read"),
                ("WRITE", "write"),
                ("ADMIN", "admin"),
                ("EXPORT", "export"),
                ("EXPIRES", "expires"),
                ("STATE", "state"),
            ];
            client.list("/roo/v1/tokens", &columns).await
        }
        Verb::Rm { name, client } => {
            let answer = client.send(Method::DELETE, &format!("/roo/v1/tokens/{}", escape(name)), Bytes::new()).await?;
            super::kv::confirm(client, &answer)
        }
    }
}
