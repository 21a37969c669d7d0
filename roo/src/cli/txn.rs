//! `roo txn`.

use bytes::Bytes;
use clap::Parser;
use http::Method;
use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, kv, output};

#[derive(Debug, Parser)]
pub(super) struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// The transaction in JSON: `compare`, `success`, `failure`; `-` reads standard input
    file: String,
}

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let document = match args.file.as_str() {
        "-" => kv::read_in()?,
        path => std::fs::read(path).map_err(|error| Failure::Failed(format!("can't read {path}: {error}")))?,
    };
    let answer = args.client.send(Method::POST, "/roo/v1/txn", Bytes::from(document)).await?;
    if args.client.json {
        return kv::write_out(&answer).and_then(|()| kv::write_out(b"\n"));
    }
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| Failure::Failed(format!("the answer is no JSON that this version knows: {error}")))?;
    println!("{}", if answer["succeeded"] == true { "succeeded" } else { "failed" });
    for result in answer["results"].as_array().into_iter().flatten() {
        print(result);
    }
    Ok(())
}

/// A line for a step, and one for each entry that it read.
fn print(result: &Value) {
    let subject = result.get("key").or_else(|| result.get("prefix")).map(output::cell).unwrap_or_default();
    let mut line = format!("{} {}", output::cell(&result["op"]), output::printable(&subject));
    if let Some(deleted) = result.get("deleted") {
        line += &format!(" {deleted}");
    }
    if result.get("entry").is_some_and(Value::is_null) {
        line += " (absent)";
    }
    println!("{line}");
    for entry in result["entries"].as_array().into_iter().flatten().chain(result.get("entry").filter(|e| e.is_object()))
    {
        println!("  {} {}", output::printable(&output::cell(&entry["key"])), kv::shown(&entry["value"]));
    }
}
