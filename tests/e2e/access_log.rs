//! The access log of a node: its settings, the signal and the call that open it anew.

use std::path::Path;

use anyhow::Context as _;
use http::Method;
use serde_json::Value;

use crate::support::api::{request, send};
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

async fn ask(node: &Node, host: &str, path: &str) -> Result<u16> {
    Ok(send(node.http, request(Method::GET, host, path, "")).await?.status.as_u16())
}

/// The lines of a file, once one of them holds `text`.
async fn lines(file: &Path, text: &str) -> Result<Vec<String>> {
    until("the line is there", async || {
        let lines: Vec<String> = std::fs::read_to_string(file)?.lines().map(str::to_owned).collect();
        ensure!(lines.iter().any(|line| line.contains(text)), "{lines:#?}");
        Ok(lines)
    })
    .await
}

#[tokio::test]
async fn a_file_has_the_lines_and_is_opened_anew_when_asked() -> Result<()> {
    let context = Context::new();
    let upstream = Upstream::echo().await?;
    let (file, moved, again) = (context.path("access.log"), context.path("access.1"), context.path("access.2"));
    let path = file.to_str().context("a path")?;
    let node = Start::new(&context, "node").args(["--access-log", path]).spawn().await?;
    node.ready().await?;
    node.route("shop.localhost:http", &upstream.url()).await?;
    until("the route is live", async || {
        ensure!(ask(&node, "shop.localhost", "/first?token=hidden").await? == 200);
        Ok(())
    })
    .await?;
    let first = lines(&file, "/first").await?;
    let line: Value = serde_json::from_str(first.iter().rfind(|line| line.contains("shop")).context("a line")?)?;
    ensure!(line["node"] == node.api.status().await?["node"], "{line}");
    ensure!(line["path"] == "/first?token=***" && line["client"] == "127.0.0.1", "{line}");

    std::fs::rename(&file, &moved)?;
    node.process.signal("USR1").await?;
    until("the file is there again", async || {
        ensure!(file.exists());
        Ok(())
    })
    .await?;
    ask(&node, "shop.localhost", "/second").await?;
    lines(&file, "/second").await?;
    ensure!(!std::fs::read_to_string(&moved)?.contains("/second"));

    std::fs::rename(&file, &again)?;
    let answer = node.api.call(Method::POST, "/roo/v1/access-log/reopen", "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    until("the file is there again", async || {
        ensure!(file.exists());
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn errors_alone_go_to_standard_output_in_the_combined_format() -> Result<()> {
    let context = Context::new();
    let args = ["--access-log", "stdout", "--access-log-format", "clf", "--access-log-only", "errors"];
    let node = Start::new(&context, "node").args(args).spawn().await?;
    node.ready().await?;
    ensure!(ask(&node, "stranger.localhost", "/nobody").await? == 404);
    let line = until("the line is printed", async || {
        let output = node.process.output();
        output.lines().find(|line| line.contains("/nobody")).map(str::to_owned).context(output.clone())
    })
    .await?;
    ensure!(line.starts_with("127.0.0.1 - - [") && line.contains("] \"GET /nobody HTTP/1.1\" 404 "), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_node_without_a_log_says_so_and_survives_the_signal() -> Result<()> {
    let context = Context::new();
    let mut node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    node.process.signal("USR1").await?;
    until("the node says so", async || {
        let output = node.process.output();
        ensure!(output.contains("set --access-log"), "{output}");
        Ok(())
    })
    .await?;
    let answer = node.api.call(Method::POST, "/roo/v1/access-log/reopen", "").await?;
    ensure!(answer.status == 409 && answer.text().contains("no-access-log"), "{answer:?}");
    ensure!(node.process.is_running());
    Ok(())
}
