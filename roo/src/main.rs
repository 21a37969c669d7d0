//! Roo: a Raft-clustered HTTPS reverse proxy with ACME, for Docker Swarm and beyond.
//!
//! This crate is the binary: configuration, wiring, the API and the command line. The work is done in the crates
//! it knows: `roo-kv`, `roo-proxy`, `roo-acme`, `roo-docker`, none of which knows another.

mod api;
mod api_ca;
mod app;
mod cli;
mod config;
mod keys;
mod metrics;
mod profile;

use std::process::ExitCode;

/// jemalloc, because it can tell what holds memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
