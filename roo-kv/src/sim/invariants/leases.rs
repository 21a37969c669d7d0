//! No lease ends earlier than its whole time after the last keep-alive that was acknowledged.

use crate::sim::history::History;

/// Clocks go up to this much too fast, in thousandths, and the client counts from its own moment.
const DRIFT: u64 = 25;

pub(super) fn check(history: &History) -> Result<(), String> {
    for (lease, ended_ms) in &history.expired {
        let Some(promise) = history.leases.get(lease).filter(|promise| !promise.given_up) else { continue };
        let ttl_ms = u64::try_from(promise.ttl.as_millis()).unwrap_or(u64::MAX);
        let due_ms = promise.renewed_ms + ttl_ms - ttl_ms * DRIFT / 1000;
        if *ended_ms < due_ms {
            return Err(format!(
                "lease {lease} of {ttl_ms} ms was renewed at {} ms and ended at {ended_ms} ms",
                promise.renewed_ms
            ));
        }
    }
    Ok(())
}
