//! `roo kv get|put|del|ls|watch`.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use http_body_util::BodyExt;
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
    Get { key: String },
    /// Write a value; `-` reads it from standard input
    Put { key: String, value: String },
    /// Delete a key
    Del { key: String },
    /// List keys that start with a prefix, and their values
    Ls {
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Print changes of keys that start with a prefix, a line each, until interrupted
    Watch {
        #[arg(default_value = "")]
        prefix: String,
    },
}

pub(super) async fn run(noun: &Noun) -> Result<(), Failure> {
    let client = &noun.client;
    match &noun.verb {
        Verb::Get { key } => get(client, key).await,
        Verb::Put { key, value } => put(client, key, value).await,
        Verb::Del { key } => del(client, key).await,
        Verb::Ls { prefix } => ls(client, prefix).await,
        Verb::Watch { prefix } => watch(client, prefix).await,
    }
}

fn path(key: &str) -> String {
    format!("/roo/v1/kv/{}", escape(key))
}

async fn get(client: &ClientArgs, key: &str) -> Result<(), Failure> {
    let value = client.send(Method::GET, &path(key), Bytes::new()).await?;
    if client.json {
        output::json(&json!({ "key": key, "value": STANDARD.encode(&value) }));
        return Ok(());
    }
    write_out(&value)
}

async fn put(client: &ClientArgs, key: &str, value: &str) -> Result<(), Failure> {
    let mut bytes = value.as_bytes().to_vec();
    if value == "-" {
        bytes.clear();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::Failed(format!("can't read standard input: {error}")))?;
    }
    confirm(client, &client.send(Method::PUT, &path(key), Bytes::from(bytes)).await?)
}

async fn del(client: &ClientArgs, key: &str) -> Result<(), Failure> {
    confirm(client, &client.send(Method::DELETE, &path(key), Bytes::new()).await?)
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
fn shown(value: &Value) -> String {
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => output::printable(&text),
        Err(error) => format!("({} bytes)", error.as_bytes().len()),
    }
}

async fn watch(client: &ClientArgs, prefix: &str) -> Result<(), Failure> {
    let response = client.open(Method::GET, &format!("/roo/v1/watch/{}", escape(prefix)), Bytes::new()).await?;
    let mut body = response.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Unreachable(format!("the node hung up: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            print_event(client, &String::from_utf8_lossy(&event))?;
        }
    }
    Err(Failure::Unreachable("the node ended the watch".to_owned()))
}

/// Prints one server-sent event (HTML Living Standard, 9.2).
fn print_event(client: &ClientArgs, event: &str) -> Result<(), Failure> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (Some(kind), Some(data)) = (field("event:"), field("data:")) else { return Ok(()) };
    let Ok(value) = serde_json::from_str::<Value>(data) else { return Ok(()) };
    let line = if client.json {
        json!({ "event": kind, "data": value }).to_string()
    } else {
        let key = value.get("key").and_then(Value::as_str).unwrap_or_default();
        let text = value.get("value").map(shown).unwrap_or_default();
        format!("{kind} {} {text}", output::printable(key)).trim_end().to_owned()
    };
    write_out(format!("{line}\n").as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Failed(format!("can't write to standard output: {error}")))
}
