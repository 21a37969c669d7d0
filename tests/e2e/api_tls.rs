//! The API over TLS: who trusts a node, and who is told what when they do not speak it.

use std::path::Path;
use std::process::Output;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use serde_json::Value;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::api::request;
use crate::support::cluster::{Node, SECRET, Start};
use crate::support::context::{Context, roo_bin};
use crate::support::events::Events;
use crate::support::https::Https;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Result, bail, ensure};

const WRONG_SECRET: &str = "a secret of another cluster";
const NEW_SECRET: &str = "the secret that takes its place";

/// Runs Roo with nothing in its environment but this.
async fn roo(args: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(roo_bin());
    command.args(args).env_clear().envs(environment.iter().copied()).kill_on_drop(true);
    Ok(command.output().await?)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn ok(args: &[&str], environment: &[(&str, &str)]) -> Result<String> {
    let output = roo(args, environment).await?;
    ensure!(output.status.success(), "{args:?} {environment:?}: {}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

async fn refused(args: &[&str], environment: &[(&str, &str)], reason: &str) -> Result<()> {
    let output = roo(args, environment).await?;
    ensure!(!output.status.success() && said(&output).contains(reason), "{args:?}: {}", said(&output));
    Ok(())
}

async fn curl(ca: &Path, url: &str) -> Result<Output> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--cacert"]).arg(ca).arg(url).kill_on_drop(true);
    Ok(command.output().await?)
}

/// Starts a node whose API speaks TLS, and waits until it answers verbs.
async fn start(context: &Context, environment: (&str, &str)) -> Result<(Node, String)> {
    let node = Start::new(context, "node").args(["--secret", SECRET, "--api-tls"]).spawn().await?;
    let url = format!("https://{}", node.api.address);
    until("the node answers", async || ok(&["kv", "put", "a", "1", "--addr", &url], &[environment]).await).await?;
    Ok((node, url))
}

#[tokio::test]
async fn whoever_knows_the_cluster_trusts_its_api_and_nobody_else_does() -> Result<()> {
    let context = Context::new();
    let (node, url) = start(&context, ("ROO_SECRET", SECRET)).await?;
    let address = node.api.address.to_string();
    let data_dir = context.path("node").display().to_string();
    let root = ok(&["ca", "api", "--secret", SECRET], &[]).await?;
    let ca = context.path("api-ca.pem");
    std::fs::write(&ca, &root)?;
    let ca_file = ca.display().to_string();
    let wrong = context.path("wrong-ca.pem");
    std::fs::write(&wrong, ok(&["ca", "api", "--secret", WRONG_SECRET], &[]).await?)?;
    let wrong_file = wrong.display().to_string();

    // By the secret, by the root that follows from it, and by a URL, a flag or the environment.
    let get = ["kv", "get", "a", "--addr"];
    for (more, environment) in [
        (vec![&*url, "--secret", SECRET], vec![]),
        (vec![&*address, "--tls", "--secret", SECRET], vec![]),
        (vec![&*address], vec![("ROO_API_TLS", "on"), ("ROO_SECRET", SECRET)]),
        (vec![&*url, "--ca-file", &*ca_file], vec![]),
        (vec![&*url], vec![("ROO_CA_FILE", &*ca_file)]),
    ] {
        ensure!(ok(&[&get[..], &more].concat(), &environment).await? == "1", "{more:?}");
    }
    // As a container checks its health: by the same environment that the node has.
    let port = format!(":{}", node.api.address.port());
    ok(&["healthcheck"], &[("ROO_API", &port), ("ROO_API_TLS", "true"), ("ROO_SECRET", SECRET)]).await?;

    for (more, reason) in [
        (vec!["--secret", WRONG_SECRET], "UnknownIssuer"),
        (vec!["--secret", SECRET, "--ca-file", &*wrong_file], "UnknownIssuer"),
        (vec!["--ca-file", &*data_dir], "the CA file"),
        (vec![], "give --ca-file"),
    ] {
        refused(&[&get[..], &[&*url], &more].concat(), &[], reason).await?;
    }

    // Other programs trust the root, under the names of the node.
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/roo/ping", node.api.address.port());
        let output = curl(&ca, &url).await?;
        ensure!(output.status.success(), "{url}: {}", said(&output));
        ensure!(curl(&wrong, &url).await?.status.code() == Some(60), "{url} is trusted with a wrong root");
    }
    let output = curl(&ca, &format!("http://{address}/roo/ping")).await?;
    ensure!(said(&output).contains("tls-needed"), "{}", said(&output));
    let answer = node.api.get("/roo/v1/status").await?;
    ensure!(answer.status == 400 && answer.json()?["code"] == "tls-needed", "{}", answer.text());
    ensure!(answer.header("connection") == "close", "{:?}", answer.headers);
    refused(&[&get[..], &[&*address]].concat(), &[("ROO_SECRET", SECRET)], "--tls").await
}

#[tokio::test]
async fn watches_go_over_tls_as_events_and_as_messages() -> Result<()> {
    let context = Context::new();
    let (node, _) = start(&context, ("ROO_SECRET", SECRET)).await?;
    let root = ok(&["ca", "api", "--secret", SECRET], &[]).await?;
    let token = ok(&["token", "--secret", SECRET], &[]).await?;
    let https = Https::trusting(&root)?;
    let path = "/roo/v1/watch/w/?from=now";

    let stream = https.connect(node.api.address, "api.roo", &["http/1.1"]).await?;
    let mut events = Events::over(stream, path, &[("authorization", &format!("Bearer {}", token.trim()))]).await?;
    ensure!(events.next().await?.name == "synced");
    let stream = https.connect(node.api.address, "api.roo", &["http/1.1"]).await?;
    let mut request = format!("wss://api.roo{path}").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse()?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| -> Result<Value> {
        match tokio::time::timeout(PATIENCE, socket.next()).await? {
            Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text)?),
            other => bail!("{other:?}"),
        }
    };
    ensure!(next(&mut socket).await?["event"] == "synced");

    let written = request_with(Method::PUT, "/roo/v1/kv/w/a", &token, "1")?;
    ensure!(https.send(node.api.address, "api.roo", written).await?.status == 200);
    let event = events.next_change().await?;
    ensure!(event.name == "put" && event.key() == "w/a", "{event:?}");
    let message = loop {
        let message = next(&mut socket).await?;
        if message["event"] != "progress" {
            break message;
        }
    };
    ensure!(message["event"] == "put" && message["data"]["key"] == "w/a", "{message}");
    ensure!(message["id"].as_u64() == event.id, "{message} {event:?}");
    socket.close(None).await?;
    Ok(())
}

fn request_with(method: Method, path: &str, token: &str, body: &'static str) -> Result<http::Request<Bytes>> {
    let mut request = request(method, "api.roo", path, body);
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse()?);
    Ok(request)
}

#[tokio::test]
async fn a_node_alone_is_trusted_by_its_data_directory() -> Result<()> {
    let context = Context::new();
    let data_dir = context.path("node").display().to_string();
    let node = Start::new(&context, "node").args(["--api-tls"]).spawn().await?;
    let url = format!("https://{}", node.api.address);
    let put = ["kv", "put", "a", "1", "--addr", &url, "--data-dir", &data_dir];
    until("the node answers", async || ok(&put, &[]).await).await?;
    ok(&["healthcheck", "--addr", &url], &[("ROO_DATA_DIR", &data_dir)]).await?;
    let ca = context.path("api-ca.pem");
    std::fs::write(&ca, ok(&["ca", "api", "--data-dir", &data_dir], &[]).await?)?;
    let output = curl(&ca, &format!("{url}/roo/ping")).await?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn both_secrets_are_good_for_trust_while_one_takes_the_place_of_the_other() -> Result<()> {
    let context = Context::new();
    let (_node, url) = start(&context, ("ROO_SECRET", SECRET)).await?;
    let data_dir = context.path("node").display().to_string();
    let file = context.path("new-secret");
    std::fs::write(&file, NEW_SECRET)?;
    let old_root = context.path("old-ca.pem");
    std::fs::write(&old_root, ok(&["ca", "api", "--secret", SECRET], &[]).await?)?;
    let addr = ["--addr", &*url];
    let to = file.display().to_string();
    ok(&[&["secret", "rotate", "--to", &*to], &addr[..]].concat(), &[("ROO_SECRET", SECRET)]).await?;
    for secret in [SECRET, NEW_SECRET] {
        ensure!(ok(&[&["kv", "get", "a"], &addr[..]].concat(), &[("ROO_SECRET", secret)]).await? == "1");
    }
    let output = curl(&old_root, &format!("{url}/roo/ping")).await?;
    ensure!(output.status.success(), "the former root in the overlap: {}", said(&output));
    ok(&[&["secret", "finish"], &addr[..]].concat(), &[("ROO_SECRET", NEW_SECRET)]).await?;
    until("the former one is not trusted", async || {
        refused(&[&["kv", "get", "a"], &addr[..]].concat(), &[("ROO_SECRET", SECRET)], "UnknownIssuer").await
    })
    .await?;
    // A container that still has the former one in its environment is healthy: its data directory knows better.
    let environment = [("ROO_SECRET", SECRET), ("ROO_DATA_DIR", &data_dir)];
    ok(&[&["healthcheck"], &addr[..]].concat(), &environment[..]).await.map(drop)
}
