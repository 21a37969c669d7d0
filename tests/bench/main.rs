//! Roo beside its peers, measured in one run: `cargo bench -p roo-tests --bench peers -- [proxy|store|cluster|scale]
//! [--rounds N] [--quick]`, or all of it by `make bench`.
//!
//! The proxy part compares CPU time per request with nginx and HAProxy, the store part writes and reads with etcd; the
//! cluster part tells how long a route and the loss of a leader take, and the scale part what many keys, watchers and
//! learners cost.
//! Everything runs on loopback, rounds of the programs alternate, and what is printed is a section for
//! BENCHMARKS.md. `ROO_BIN` names the binary; without it the release build of this workspace is used.

mod certificate;
mod client;
mod cluster;
mod cpu;
mod disk;
mod etcd;
mod haproxy;
mod keys;
mod learners;
mod load;
mod machine;
mod nginx;
mod options;
mod ports;
mod program;
mod proxy;
mod roo;
mod series;
mod server;
mod store;
#[allow(dead_code, unused_imports, reason = "shared with the end to end tests; only a part is needed here")]
#[path = "../e2e/support/mod.rs"]
mod support;
mod table;
mod watchers;

use std::process::ExitCode;

use anyhow::Context as _;
use options::{Options, Part};
use support::Result;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(mistake) => return usage(&mistake),
    };
    if let Err(missing) = program::check(&options) {
        return usage(&missing);
    }
    // Whichever ends first, the other is dropped, and with it every child process.
    let outcome = tokio::select! {
        outcome = run(&options) => outcome,
        outcome = interrupted() => outcome,
    };
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("bench: {text}");
    ExitCode::from(2)
}

/// Runs the parts that were asked for; gives the section for BENCHMARKS.md.
async fn run(options: &Options) -> Result<String> {
    // Data on the disk that holds the build: the system's directory for temporary files may be in memory.
    tempfile::env::override_temp_dir(env!("CARGO_TARGET_TMPDIR").as_ref())
        .map_err(|dir| anyhow::anyhow!("the directory for temporary files is fixed to {}", dir.display()))?;
    let mut report = machine::heading(options)?;
    for part in Part::ALL.into_iter().filter(|part| options.wants(*part)) {
        let section = match part {
            Part::Proxy => proxy::run(options).await,
            Part::Store => store::run(options).await,
            Part::Cluster => cluster::run(options).await,
            Part::Scale => scale(options).await,
        };
        report += &section.with_context(|| format!("the part `{}`", part.name()))?;
    }
    Ok(report)
}

/// What much of something costs.
async fn scale(options: &Options) -> Result<String> {
    let keys = keys::run(options).await.context("many keys")?;
    let watchers = watchers::run(options).await.context("many watchers")?;
    let learners = learners::run(options).await.context("many learners")?;
    Ok([keys, watchers, learners].concat())
}

/// Waits for a signal that asks to end.
async fn interrupted() -> Result<String> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        outcome = tokio::signal::ctrl_c() => outcome?,
    }
    anyhow::bail!("interrupted")
}
