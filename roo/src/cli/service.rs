//! `roo service ls|add|stop|resume|rm`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::client::{ClientArgs, escape};
use super::{Failure, kv};
use crate::app::Stop;

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the services, or the instances of one
    Ls {
        /// The service
        name: Option<String>,
        /// List the instances that run on a node, by its id
        #[arg(long, value_name = "ID", conflicts_with = "name")]
        node: Option<String>,
        /// List the instance that a key belongs to
        #[arg(long, value_name = "TEXT", requires = "name")]
        key: Option<String>,
    },
    /// Register an instance; with a TTL, keep it registered until interrupted, then take it out
    Add(Add),
    /// Give an instance nothing new, on all nodes; what it has begun goes on
    Stop {
        /// The service
        name: String,
        /// The instance, as `roo service ls NAME` shows it
        id: String,
    },
    /// Give an instance requests again
    Resume {
        /// The service
        name: String,
        /// The instance
        id: String,
    },
    /// Take an instance out
    Rm {
        /// The service
        name: String,
        /// The instance, as `roo service ls NAME` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// The service
    name: String,
    /// Where the instance listens: host:port
    address: String,
    /// Tells it from other instances of the service [default: its address]
    #[arg(long)]
    id: Option<String>,
    /// How long it stays registered once nobody keeps it alive: for example 15s
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Its share of the requests, compared with other instances: 1 to 1000
    #[arg(long, default_value_t = 1)]
    weight: u64,
    /// What it says about itself; may be given several times
    #[arg(long = "meta", value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    match &noun.verb {
        Verb::Ls { name: None, node: None, .. } => {
            let columns = [
                ("SERVICE", "service"),
                ("INSTANCES", "instances"),
                ("UP", "up"),
                ("SOURCE", "sources"),
                ("NODES", "nodes"),
            ];
            client.list("/roo/v1/services", &columns).await
        }
        Verb::Ls { name: None, node: Some(node), .. } => {
            client.list(&format!("/roo/v1/services?node={}", escape(node)), &INSTANCE_COLUMNS).await
        }
        Verb::Ls { name: Some(name), key, .. } => {
            let query = key.as_ref().map(|key| format!("?key={}", escape(key))).unwrap_or_default();
            client.list(&format!("/roo/v1/services/{}{query}", escape(name)), &INSTANCE_COLUMNS[1..]).await
        }
        Verb::Add(add) => add.run(client).await,
        Verb::Stop { name, id } => mark(client, name, id, "stopping").await,
        Verb::Resume { name, id } => mark(client, name, id, "up").await,
        Verb::Rm { name, id } => {
            kv::confirm(client, &client.send(Method::DELETE, &path(name, id), Bytes::new()).await?)
        }
    }
}

async fn mark(client: &ClientArgs, name: &str, id: &str, state: &str) -> Result<(), Failure> {
    let body = Bytes::from(json!({ "state": state }).to_string());
    kv::confirm(client, &client.send(Method::PATCH, &path(name, id), body).await?)
}

const INSTANCE_COLUMNS: [(&str, &str); 8] = [
    ("SERVICE", "service"),
    ("ID", "id"),
    ("ADDRESS", "address"),
    ("STATE", "state"),
    ("WEIGHT", "weight"),
    ("TTL", "ttl"),
    ("SOURCE", "source"),
    ("NODE", "node"),
];
/// Keep-alives within one TTL: two may be lost.
const KEEP_ALIVES_PER_TTL: u32 = 3;
/// The shortest TTL that the store takes.
const TTL_MIN: Duration = Duration::from_secs(1);

impl Add {
    async fn run(&self, client: &ClientArgs) -> Result<(), Failure> {
        let ttl = self.ttl.as_deref().map(crate::config::duration).transpose();
        let ttl = ttl.map_err(|fault| Failure::Usage(format!("--ttl: {fault}")))?;
        let Some(ttl) = ttl else { return kv::confirm(client, &self.register(client, Some("up")).await?) };
        let mut stop = Stop::listen()?;
        kv::confirm(client, &self.register(client, Some("up")).await?)?;
        if !client.json {
            println!("{} is registered as {}; Ctrl-C takes it out", self.id(), self.name);
        }
        let keeping = self.keep(client, ttl.max(TTL_MIN) / KEEP_ALIVES_PER_TTL);
        tokio::select! {
            failure = keeping => Err(failure),
            () = stop.asked() => {
                client.send(Method::DELETE, &path(&self.name, self.id()), Bytes::new()).await.map(drop)
            }
        }
    }

    /// Registers again and again. A node that can't be reached may come back; one that finds fault with the
    /// call will do so again.
    async fn keep(&self, client: &ClientArgs, every: Duration) -> Failure {
        let mut is_lost = false;
        loop {
            tokio::time::sleep(every).await;
            // Without a state: somebody may have stopped it meanwhile.
            match self.register(client, None).await {
                Ok(_) if is_lost => {
                    eprintln!("roo: {} is registered again", self.id());
                    is_lost = false;
                }
                Ok(_) => {}
                Err(failure @ Failure::Usage(_)) => return failure,
                Err(failure) => {
                    if !is_lost {
                        eprintln!("roo: {} could not be kept alive, and is tried again: {failure}", self.id());
                    }
                    is_lost = true;
                }
            }
        }
    }

    async fn register(&self, client: &ClientArgs, state: Option<&str>) -> Result<Bytes, Failure> {
        let metadata: BTreeMap<_, _> = self.metadata.iter().cloned().collect();
        let mut body = json!({ "address": self.address, "weight": self.weight, "metadata": metadata });
        if let Some(ttl) = &self.ttl {
            body["ttl"] = json!(ttl);
        }
        if let Some(state) = state {
            body["state"] = json!(state);
        }
        client.send(Method::PUT, &path(&self.name, self.id()), Bytes::from(body.to_string())).await
    }

    fn id(&self) -> &str {
        self.id.as_ref().unwrap_or(&self.address)
    }
}

fn path(service: &str, id: &str) -> String {
    format!("/roo/v1/services/{}/{}", escape(service), escape(id))
}

/// Reads `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no =; write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
