//! `roo kv get|put|del|ls|watch`.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::Failure;
use super::client::{ClientArgs, escape};
use super::output;

#[derive(Debug, Args)]
pub(super) struct Noun {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the value of a key
    Get {
        key: String,
        /// Print its revisions, version and lease too
        #[arg(long)]
        meta: bool,
    },
    /// Write a value; `-` reads it from standard input
    Put {
        key: String,
        value: String,
        /// Only if the key was last written at this revision
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
        /// Only if the key does not exist
        #[arg(long, conflicts_with = "if_revision")]
        create: bool,
        /// Delete the key when this lease ends
        #[arg(long, value_name = "ID")]
        lease: Option<String>,
    },
    /// Delete a key
    Del {
        key: String,
        /// Only if the key was last written at this revision
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
    },
    /// List keys that start with a prefix, and their values
    Ls {
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Print changes of keys that start with a prefix, a line each, until interrupted
    Watch {
        #[arg(default_value = "")]
        prefix: String,
        /// Begin with what happened at this revision, or `now`, rather than with what is there
        #[arg(long, value_name = "REVISION")]
        from: Option<String>,
        /// Tell what was before, too
        #[arg(long)]
        prev: bool,
    },
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    match &noun.verb {
        Verb::Get { key, meta } => get(client, key, *meta).await,
        Verb::Put { key, value, if_revision, create, lease } => {
            let previous = if *create { Some(0) } else { *if_revision };
            put(client, &write_path(key, previous, lease.as_deref()), value).await
        }
        Verb::Del { key, if_revision } => {
            let path = write_path(key, *if_revision, None);
            confirm(client, &client.send(Method::DELETE, &path, Bytes::new()).await?)
        }
        Verb::Ls { prefix } => ls(client, prefix).await,
        Verb::Watch { prefix, from, prev } => super::watch::run(client, prefix, from.as_deref(), *prev).await,
    }
}

fn path(key: &str) -> String {
    format!("/roo/v1/kv/{}", escape(key))
}

/// The path of a write that expects the key to have been written at `previous` (0: not to exist).
fn write_path(key: &str, previous: Option<u64>, lease: Option<&str>) -> String {
    let previous = previous.map(|revision| format!("prev_revision={revision}"));
    let lease = lease.map(|id| format!("lease={}", escape(id)));
    let query: Vec<String> = previous.into_iter().chain(lease).collect();
    if query.is_empty() { path(key) } else { format!("{}?{}", path(key), query.join("&")) }
}

async fn get(client: &ClientArgs, key: &str, meta: bool) -> Result<(), Failure> {
    let (head, value) = client.exchange(Method::GET, &path(key), Bytes::new()).await?;
    if !meta && !client.json {
        return write_out(&value);
    }
    let mut facts = json!({ "key": key, "value": STANDARD.encode(&value) });
    for name in ["create-revision", "mod-revision", "version"] {
        let number =
            head.headers.get(format!("x-roo-{name}")).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        facts[name.replace('-', "_")] = json!(number);
    }
    facts["lease"] = json!(head.headers.get("x-roo-lease").and_then(|value| value.to_str().ok()));
    if client.json {
        output::json(&facts);
        return Ok(());
    }
    let mut row = vec![key.to_owned()];
    row.extend(["create_revision", "mod_revision", "version", "lease"].map(|name| output::cell(&facts[name])));
    row.push(shown(&facts["value"]));
    output::table(&["KEY", "CREATED AT", "WRITTEN AT", "VERSION", "LEASE", "VALUE"], &[row]);
    Ok(())
}

async fn put(client: &ClientArgs, path: &str, value: &str) -> Result<(), Failure> {
    let bytes = if value == "-" { read_in()? } else { value.as_bytes().to_vec() };
    confirm(client, &client.send(Method::PUT, path, Bytes::from(bytes)).await?)
}

/// All of standard input.
pub(super) fn read_in() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Failed(format!("can't read standard input: {error}")))?;
    Ok(bytes)
}

/// Prints the node's answer to a write, if JSON is asked for.
pub(super) fn confirm(client: &ClientArgs, answer: &[u8]) -> Result<(), Failure> {
    if client.json { write_out(answer).and_then(|()| write_out(b"\n")) } else { Ok(()) }
}

/// All entries under a prefix, page by page.
async fn ls(client: &ClientArgs, prefix: &str) -> Result<(), Failure> {
    let mut all = serde_json::Map::new();
    let mut cursor = String::new();
    loop {
        let query = if cursor.is_empty() { String::new() } else { format!("&cursor={}", escape(&cursor)) };
        let page: Value = client.json(&format!("/roo/v1/kvs/{}?limit=1000{query}", escape(prefix))).await?;
        if let Some(results) = page.get("results").and_then(Value::as_object) {
            all.extend(results.clone());
        }
        match page.get("cursor").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    if client.json {
        output::json(&Value::Object(all));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all.iter().map(|(key, value)| vec![key.clone(), shown(value)]).collect();
    output::table(&["KEY", "VALUE"], &rows);
    Ok(())
}

/// A base64 value as text where it is text.
pub(super) fn shown(value: &Value) -> String {
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => output::printable(&text),
        Err(error) => format!("({} bytes)", error.as_bytes().len()),
    }
}

pub(super) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Failed(format!("can't write to standard output: {error}")))
}
