//! `roo cert renew|revoke`: what the node that issues is asked for, and how it went.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{ClientArgs, Failure, path};

/// Between looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// As `roo cert ls` shows it
    name: String,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// As `roo cert ls` shows it
    name: String,
    /// unspecified, keyCompromise, affiliationChanged, superseded or cessationOfOperation
    #[arg(long, value_name = "WHY", default_value = "unspecified")]
    reason: String,
    /// Order no other one: the name is not served by https until `roo cert renew`
    #[arg(long)]
    no_renew: bool,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn renew(client: &ClientArgs, args: &Renew) -> Result<(), Failure> {
    let before = client.json::<Value>(&path(&args.name)).await?;
    ask(client, &args.name, "renew", &Value::Null).await?;
    if args.no_wait {
        return Ok(());
    }
    let serial = before["serial"].clone();
    let done = wait(client, &args.name, &before, |now| now["serial"] != serial && now["serial"].is_string()).await?;
    print(client, &done, "renewed");
    Ok(())
}

pub(super) async fn revoke(client: &ClientArgs, args: &Revoke) -> Result<(), Failure> {
    let before = client.json::<Value>(&path(&args.name)).await?;
    ask(client, &args.name, "revoke", &json!({ "reason": args.reason, "renew": !args.no_renew })).await?;
    if args.no_wait {
        return Ok(());
    }
    let serial = before["serial"].clone();
    let revoked = |now: &Value| now["serial"] != serial || now["revoked"]["renew"] == false;
    let done = wait(client, &args.name, &before, revoked).await?;
    print(client, &done, "revoked");
    Ok(())
}

async fn ask(client: &ClientArgs, name: &str, what: &str, body: &Value) -> Result<(), Failure> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    client.send(Method::POST, &format!("{}/{what}", path(name)), body).await.map(drop)
}

/// Looks until it is `done`, or has failed once more than `before`.
async fn wait(
    client: &ClientArgs,
    name: &str,
    before: &Value,
    done: impl Fn(&Value) -> bool,
) -> Result<Value, Failure> {
    let looking = async {
        loop {
            let now = client.json::<Value>(&path(name)).await?;
            if done(&now) && now["asked"].is_null() {
                return Ok(now);
            }
            if now["last_error_at"].is_string() && now["last_error_at"] != before["last_error_at"] {
                let error = now["last_error"].as_str().unwrap_or_default();
                let next = now["next_try"].as_str().unwrap_or("never");
                return Err(Failure::Failed(format!("it failed: {error}\nit is tried again: {next}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = |_| {
        let text = format!(
            "not done within {} s, and still asked for; `roo cert show {name}` tells how far it is",
            client.timeout
        );
        Err(Failure::Failed(text))
    };
    tokio::time::timeout(Duration::from_secs(client.timeout), looking).await.unwrap_or_else(late)
}

fn print(client: &ClientArgs, now: &Value, what: &str) {
    if client.json {
        super::output::json(now);
    } else {
        let (name, serial) = (&now["name"], &now["serial"]);
        let not_after = &now["not_after"];
        println!("{what}: {}, serial {}, until {}", plain(name), plain(serial), plain(not_after));
    }
}

fn plain(value: &Value) -> String {
    super::output::printable(&super::output::cell(value))
}
