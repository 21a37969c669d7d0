//! The command line, called as people call it.

use std::process::Output;

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::cluster::Node;
use super::context::roo_bin;

/// Runs a verb, of `node` if there is one.
pub async fn roo(node: Option<&Node>, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(roo_bin());
    command.args(args).env_clear();
    if let Some(node) = node {
        command.env("ROO_ADDR", node.api.address.to_string());
        command.envs(node.api.token.as_ref().map(|token| ("ROO_TOKEN", token)));
    }
    Ok(command.output().await?)
}

/// All that it printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a verb printed that succeeded.
pub async fn ok(node: &Node, args: &[&str]) -> Result<String> {
    let output = roo(Some(node), args).await?;
    ensure!(output.status.code() == Some(0), "{args:?} exits with {}: {}", output.status, text(&output));
    Ok(String::from_utf8(output.stdout)?)
}
