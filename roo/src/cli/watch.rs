//! `roo kv watch`: server-sent events (HTML Living Standard, 9.2), a line each.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::client::{ClientArgs, escape};
use super::kv::{shown, write_out};
use super::{Failure, output};

/// Prints changes until the node ends the watch. One that falls behind goes on where it was.
pub(super) async fn run(client: &ClientArgs, prefix: &str, from: Option<&str>, prev: bool) -> Result<(), Failure> {
    let mut from = from.map(str::to_owned);
    loop {
        let mut query = vec![format!("prev={}", u8::from(prev))];
        query.extend(from.as_deref().map(|from| format!("from={}", escape(from))));
        let path = format!("/roo/v1/watch/{}?{}", escape(prefix), query.join("&"));
        from = Some(follow(client, &path).await?);
    }
}

/// Returns from where to go on, if the node says so.
async fn follow(client: &ClientArgs, path: &str) -> Result<String, Failure> {
    let mut body = client.open(Method::GET, path, Bytes::new()).await?.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Unreachable(format!("the node hung up: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            if let Some(resume) = print(client, &String::from_utf8_lossy(&event))? {
                return Ok(resume);
            }
        }
    }
    Err(Failure::Unreachable("the node ended the watch".to_owned()))
}

/// Prints an event; of `behind`, returns from where to go on.
fn print(client: &ClientArgs, event: &str) -> Result<Option<String>, Failure> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (Some(kind), Some(data)) = (field("event:"), field("data:")) else { return Ok(None) };
    let Ok(value) = serde_json::from_str::<Value>(data) else { return Ok(None) };
    match kind {
        "behind" => return Ok(Some(output::cell(&value["resume"]))),
        "compacted" => {
            let oldest = output::cell(&value["oldest"]);
            return Err(Failure::Failed(format!("what comes next is no longer kept; begin anew, or from {oldest}")));
        }
        // That nothing happened is of interest to programs.
        "progress" if !client.json => return Ok(None),
        _ => {}
    }
    let line = if client.json {
        json!({ "event": kind, "data": value }).to_string()
    } else {
        let key = value.get("key").and_then(Value::as_str).unwrap_or_default();
        let text = value.get("value").map(shown).unwrap_or_default();
        let before =
            value.get("prev").and_then(|prev| prev.get("value")).map(|value| format!(" (was {})", shown(value)));
        format!("{kind} {} {text}{}", output::printable(key), before.unwrap_or_default()).trim_end().to_owned()
    };
    write_out(format!("{line}\n").as_bytes()).map(|()| None)
}
