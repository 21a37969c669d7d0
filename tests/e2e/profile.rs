//! Profiles of the running process, under load, in the format of `go tool pprof`.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use tokio::process::Command;

use crate::support::cluster::Start;
use crate::support::context::Context;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};
use anyhow::Context as _;

/// The parts of profile.proto that are looked at.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
}

fn decode(bytes: &[u8]) -> Result<Profile> {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)?;
    } else {
        plain.extend_from_slice(bytes);
    }
    Ok(Profile::decode(plain.as_slice())?)
}

#[tokio::test]
async fn both_profiles_name_our_functions_while_requests_go_on() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").args(["--debug"]).spawn().await?;
    node.ready().await?;
    let upstream = Upstream::saying("busy").await?;
    node.route("busy.localhost:https", &upstream.url()).await?;
    let https = node.https_client().await?;
    let address = node.https;
    until("it is served", async || https.get(address, "busy.localhost", "/").await).await?;

    let done = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let done = done.clone();
        async move {
            let mut count = 0_u32;
            while !done.load(Ordering::Relaxed) && count < 100_000 {
                let answer = https.get(address, "busy.localhost", "/").await?;
                ensure!(answer.status == 200, "{answer:?}");
                count += 1;
            }
            Ok(count)
        }
    });
    for (name, path) in [("cpu", "/debug/pprof/profile?seconds=3"), ("heap", "/debug/pprof/heap")] {
        let answer = node.api.get(path).await?;
        ensure!(answer.status == 200, "{name}: {} {}", answer.status, answer.text());
        let profile = decode(&answer.body)?;
        ensure!(!profile.samples.is_empty(), "{name}: no samples");
        let ours = profile.strings.iter().any(|name| name.contains("roo_proxy") || name.contains("roo_kv"));
        ensure!(ours, "{name}: none of our functions among {} names", profile.strings.len());
        let file = context.path(&format!("{name}.pb"));
        std::fs::write(&file, &answer.body)?;
        go_tool_reads(&file).await.context(name)?;
    }
    // Whichever comes first is served, the other is refused.
    until("one of two profiles at a time is refused", async || {
        let path = "/debug/pprof/profile?seconds=2";
        let (one, two) = tokio::join!(node.api.get(path), node.api.get(path));
        let mut statuses = [one?.status.as_u16(), two?.status.as_u16()];
        statuses.sort_unstable();
        ensure!(statuses == [200, 409], "{statuses:?}");
        Ok(())
    })
    .await?;
    done.store(true, Ordering::Relaxed);
    let count = load.await??;
    ensure!(count > 0, "no request was answered");
    ensure!(node.api.get("/debug/pprof/").await?.text().contains("heap"));
    Ok(())
}

/// What the profile is for: Go's tool reads it.
async fn go_tool_reads(file: &std::path::Path) -> Result<()> {
    let output = Command::new("go")
        .args(["tool", "pprof", "-top", "-nodecount=40"])
        .arg(file)
        .env("HOME", file.parent().context("a folder")?)
        .output()
        .await
        .context("`go` is missing; install it by: apt-get install golang-go")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && text.contains("flat%"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn profiles_need_the_right_to_write() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.args(["--debug"]).spawn().await?;
    node.ready().await?;
    let mut stranger = node.api.clone();
    stranger.token = None;
    for path in ["/debug/pprof/", "/debug/pprof/profile?seconds=1", "/debug/pprof/heap"] {
        ensure!(stranger.get(path).await?.status == 401, "{path}");
    }
    Ok(())
}
