//! Roo beside its peers, measured in one run: `cargo bench -p roo-tests --bench peers -- [PART]... [--rounds N]
//! [--quick]`, or all of it by `make bench`.
//!
//! The proxy part compares CPU time per request with nginx and HAProxy, access-log once more while all of them write
//! one to a file, instructions counts those of a request, names has many routes and certificates beside HAProxy and
//! Caddy, certificates asks the resolver itself, issuing has names registered at
//! a CA beside Caddy, the store part writes and reads with etcd; the cluster part tells how long a route and the loss of a leader
//! take; keys, watchers and learners, together scale, what
//! many of these cost.
//! Everything runs on loopback, rounds of the programs alternate, and what is printed is a section for
//! BENCHMARKS.md. `ROO_BIN` names the binary; without it the release build of this workspace is used.

mod certificate;
mod certificates;
mod client;
mod cluster;
mod cpu;
mod disk;
mod etcd;
mod haproxy;
mod instructions;
mod issuing;
mod keys;
mod latency;
mod learners;
mod load;
mod machine;
mod names;
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
use proxy::Logs;
use support::Result;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(mistake) => return usage(&mistake),
    };
    if let Err(missing) = options.check() {
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
            Part::Proxy => proxy::run(options, Logs::Off).await,
            Part::AccessLog => proxy::run(options, Logs::On).await,
            Part::Instructions => instructions::run().await,
            Part::Names => names::run(options).await,
            Part::Certificates => certificates::run(options),
            Part::Issuing => issuing::run(options).await,
            Part::Store => store::run(options).await,
            Part::Cluster => cluster::run(options).await,
            Part::Keys => keys::run(options).await,
            Part::Watchers => watchers::run(options).await,
            Part::Learners => learners::run(options).await,
        };
        report += &section.with_context(|| format!("the part `{}`", part.name()))?;
    }
    Ok(report)
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
