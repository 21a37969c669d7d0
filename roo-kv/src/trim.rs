//! Keeps the log short without an operator: takes a snapshot when one is due and lets go of the log before it.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use crate::node::Node;
use crate::snapshot::LogMeter;

/// Between looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Node>, meter: Arc<LogMeter>) {
    let stop = node.stop.clone();
    let mut trimmed_for = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        let snapshot = node.raft.metrics().borrow_watched().snapshot.as_ref().map(|id| id.index);
        let state_bytes = node.view.state().records.bytes() as u64;
        if let Some(snapshot) = snapshot
            && trimmed_for < Some(snapshot)
        {
            trimmed_for = Some(snapshot);
            if let Some(upto) = meter.purgeable(snapshot, state_bytes) {
                tracing::debug!(upto, snapshot, "letting go of the log before a snapshot");
                warn_if_failed(node.raft.trigger().purge_log(upto).await);
            }
        }
        // While one is being written, this does nothing.
        if meter.is_due(snapshot, state_bytes) {
            warn_if_failed(node.raft.trigger().snapshot().await);
        }
    }
}

/// The engine has stopped, and with it soon this task.
fn warn_if_failed<E: std::fmt::Display>(triggered: Result<(), E>) {
    if let Err(error) = triggered {
        tracing::debug!(%error, "the log cannot be trimmed now");
    }
}
