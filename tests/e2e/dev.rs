//! `roo dev`, as a newcomer meets it.

use std::path::Path;

use tokio::process::Command;

use crate::support::context::{Context, roo_bin};
use crate::support::process::Process;
use crate::support::wait::until;
use crate::support::{Result, ensure};
use anyhow::Context as _;

fn dev(dir: &Path) -> Command {
    let mut command = Command::new(roo_bin());
    command.arg("dev").current_dir(dir);
    for port in ["http", "https", "api", "raft"] {
        command.arg(format!("--{port}=127.0.0.1:0"));
    }
    command
}

/// Starts it, pastes the line that it prints into a shell, and gives back what that answers.
async fn start_and_paste(context: &Context, log: &str) -> Result<(Process, String)> {
    let process = Process::spawn(dev(context.dir()), &context.path(log))?;
    let line = until("it prints the line to try", async || {
        let output = process.output();
        output.lines().map(str::trim).find(|line| line.starts_with("curl ")).map(str::to_owned).context(output.clone())
    })
    .await?;
    let output = Command::new("sh")
        .args(["-c", &format!("{line} -sS -w '%{{http_code}}'")])
        .current_dir(context.dir())
        .output()
        .await?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{line}\n{text}");
    Ok((process, text))
}

#[tokio::test]
async fn the_printed_line_answers_and_a_second_start_finds_its_data() -> Result<()> {
    let context = Context::new();
    let (mut process, text) = start_and_paste(&context, "first.log").await?;
    ensure!(text.contains("Roo demo") && text.ends_with("200"), "{text}");
    let root = std::fs::read_to_string(context.path("roo-data/ca.pem"))?;
    process.signal("INT").await?;
    let status = process.wait().await?;
    ensure!(status.success(), "Ctrl-C: {status}\n{}", process.output());

    let (_process, text) = start_and_paste(&context, "second.log").await?;
    ensure!(text.ends_with("200"), "{text}");
    ensure!(std::fs::read_to_string(context.path("roo-data/ca.pem"))? == root, "the CA is another one");
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for port in ["http", "https", "api", "raft"] {
        let context = Context::new();
        let mut command = Command::new(roo_bin());
        command.arg("dev").current_dir(context.dir());
        for other in ["http", "https", "api", "raft"] {
            let value = if other == port { &address } else { "127.0.0.1:0" };
            command.env(format!("ROO_{}", other.to_uppercase()), value);
        }
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let number = taken.local_addr()?.port().to_string();
        ensure!(output.status.code() == Some(1), "{port}: {} {said}", output.status);
        ensure!(said.contains(&number) && said.contains(&format!("--{port}")), "{port}: {said}");
    }
    Ok(())
}
