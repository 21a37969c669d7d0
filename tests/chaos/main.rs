//! The store under every fault that we can make: real processes, real clients, and a checker that judges what the
//! clients were told.
//!
//! `faults` has the tests with histories, `kills` the one that kills a node again and again. Seeds are printed; see
//! `options` for what the environment sets.

mod client;
mod clock;
mod faults;
mod history;
mod http;
mod kills;
mod linearizability;
mod links;
mod member;
mod nemesis;
mod options;
mod register;
mod revisions;
mod run;
mod schedule;
mod shim;
#[allow(dead_code, unused_imports, reason = "shared with the end to end tests; only a part is needed here")]
#[path = "../e2e/support/mod.rs"]
mod support;
