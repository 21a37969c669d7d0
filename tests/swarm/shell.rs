//! Programs of the system: run to their end, their complaints in the error.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// A command that ends with whoever waits for it.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(std::process::Stdio::null()).kill_on_drop(true);
    command
}

/// What a command that succeeds prints, without the last line's end.
pub async fn output(mut command: Command) -> Result<String> {
    let output = command.output().await.with_context(|| format!("{:?}", command.as_std()))?;
    printed(output).with_context(|| format!("{:?}", command.as_std()))
}

/// As [`output`], of a program and its arguments.
pub async fn run(program: &str, args: &[&str]) -> Result<String> {
    output(command(program, args)).await
}

/// As [`run`], for where nothing can be awaited.
pub fn run_now(program: &str, args: &[&str]) -> Result<String> {
    let output = std::process::Command::new(program).args(args).stdin(std::process::Stdio::null()).output();
    printed(output.with_context(|| program.to_owned())?).with_context(|| format!("{program} {args:?}"))
}

fn printed(output: Output) -> Result<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
