//! Issuing as a whole: issuers of several nodes over one store in memory, and Pebble as the CA.
//!
//! Needs Debian's package `pebble`, which brings `pebble` and `pebble-challtestsrv` (used as the DNS server).

#![allow(clippy::unwrap_used)]

mod accounts;
mod answers;
mod cas;
mod challenges;
mod dns;
mod internal;
mod keys;
#[path = "../../../tests/e2e/support/knot.rs"]
#[allow(unreachable_pub, reason = "the end to end tests have it as well")]
mod knot;
mod limits;
mod nemesis;
mod node;
mod one_node;
mod pebble;
mod probe;
mod shows;
mod simulated;
mod two_nodes;
mod vault;
mod wishes;

use std::future::Future;
use std::time::Duration;

/// Waits until `probe` has something; panics with `what` after the deadline.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Far beyond what any step needs, even on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(90);
