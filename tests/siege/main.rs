//! A node under siege: real processes of Roo on loopback, and clients that flood, drip, stall and lie. What it may cost
//! is read from `/proc`; what must hold are conditions, and the figures are printed for people.
//!
//! One file per kind of hostility. `make soak` runs the same with the full numbers; see `options`.
//!
//! - all of it: `cargo test --workspace --test siege -- --nocapture --test-threads=1`

mod aborts;
mod changes;
mod cost;
mod floods;
mod front;
mod good;
mod http2;
mod noise;
mod options;
mod quorum;
mod slow;

// Shared with other tests; only a part is needed here.
#[allow(dead_code)]
#[path = "../bench/cpu.rs"]
mod cpu;
#[allow(dead_code)]
#[path = "../corpus/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../bench/program.rs"]
mod program;
#[allow(dead_code, unused_imports)]
#[path = "../e2e/support/mod.rs"]
mod support;

/// The name that the node serves.
const HOST: &str = "shop.test";
