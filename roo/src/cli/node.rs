//! `roo node ls|remove|promote|demote|transfer`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;

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
    /// Remove a node that is down from the cluster
    Remove {
        #[command(flatten)]
        which: Which,
        /// Also if it is up; it joins again when it is restarted
        #[arg(long)]
        force: bool,
    },
    /// Have a node vote
    Promote(Which),
    /// Have a node follow without a vote, until it is promoted
    Demote(Which),
    /// Have another node lead
    Transfer {
        /// The next leader: its id, the beginning of it, or its Raft address [default: the one that has caught up most]
        #[arg(value_name = "NODE")]
        node: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Its id, the beginning of it, or its Raft address
    #[arg(value_name = "NODE")]
    node: String,
}

/// What is needed of a node to tell which one is meant.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    address: String,
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    match &noun.verb {
        Verb::Ls => {
            let columns = [("ID", "id"), ("RAFT ADDRESS", "address"), ("ROLE", "role"), ("STATE", "state")];
            client.list("/roo/v1/nodes", &columns).await
        }
        Verb::Remove { which, force } => {
            let id = find(client, &which.node).await?;
            let query = if *force { "?force=true" } else { "" };
            act(client, Method::DELETE, &format!("/roo/v1/nodes/{id}{query}")).await
        }
        Verb::Promote(which) => post(client, &which.node, "promote").await,
        Verb::Demote(which) => post(client, &which.node, "demote").await,
        Verb::Transfer { node: Some(node) } => post(client, node, "transfer").await,
        Verb::Transfer { node: None } => act(client, Method::POST, "/roo/v1/nodes/transfer").await,
    }
}

async fn post(client: &ClientArgs, node: &str, verb: &str) -> Result<(), Failure> {
    let id = find(client, node).await?;
    act(client, Method::POST, &format!("/roo/v1/nodes/{id}/{verb}")).await
}

async fn act(client: &ClientArgs, method: Method, path: &str) -> Result<(), Failure> {
    client.send(method, path, Bytes::new()).await.map(drop)
}

/// The id of the one node that is meant.
async fn find(client: &ClientArgs, text: &str) -> Result<String, Failure> {
    choose(client.json("/roo/v1/nodes").await?, text)
}

fn choose(nodes: Vec<Row>, text: &str) -> Result<String, Failure> {
    let wanted = text.to_ascii_lowercase();
    let host = |address: &str| address.rsplit_once(':').map(|(host, _)| host.to_owned());
    let exact = nodes.iter().find(|node| node.id == wanted || node.address == text);
    let alike = |node: &&Row| node.id.starts_with(&wanted) || host(&node.address).as_deref() == Some(text);
    let matching: Vec<&Row> = exact.map_or_else(|| nodes.iter().filter(alike).collect(), |node| vec![node]);
    match matching[..] {
        [node] if !text.is_empty() => Ok(node.id.clone()),
        [] | [_] => Err(Failure::Failed(format!("there is no node `{text}`; `roo node ls` shows them"))),
        _ => Err(Failure::Usage(format!("`{text}` may be any of {} nodes; write more of the id", matching.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_what_is_unique_to_it() {
        let nodes = || {
            [("00ab", "10.0.0.1:6300"), ("00cd", "10.0.0.2:6300"), ("12cd", "10.0.0.2:6301")]
                .map(|(id, address)| Row { id: id.to_owned(), address: address.to_owned() })
                .into()
        };
        for (text, expected) in [
            ("00ab", Some("00ab")),
            ("00A", Some("00ab")),
            ("1", Some("12cd")),
            ("12", Some("12cd")),
            ("10.0.0.1", Some("00ab")),
            ("10.0.0.2", None),
            ("10.0.0.2:6301", Some("12cd")),
            ("00", None),
            ("ff", None),
            ("", None),
        ] {
            assert_eq!(choose(nodes(), text).ok().as_deref(), expected, "{text}");
        }
    }
}
