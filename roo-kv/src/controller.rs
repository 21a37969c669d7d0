//! What the leader does on its own: caring for the membership and ending leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::{Command, Reply};
use crate::membership;
use crate::node::Node;
use crate::state;

/// Between looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until the node stops; acts only while the node leads.
pub(crate) async fn run(node: Arc<Node>) {
    let stop = node.stop.clone();
    // The term in which the node leads, and since when a quorum has acknowledged it without a break.
    let mut reign: Option<(u64, Instant)> = None;
    let mut replaced = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        let progress = *node.view.progress().borrow();
        if progress.replaced > replaced {
            // The leases are others now; they are taken over as by a new leader, with all of their time.
            replaced = progress.replaced;
            node.leases.step_down();
        }
        match node.leading() {
            // Only a leader whose word counts may judge who is away and what has ended.
            Some(term) if node.leads_surely() => {
                let (_, since) = reign.filter(|(known, _)| *known == term).unwrap_or((term, Instant::now()));
                reign = Some((term, since));
                end_leases(&node, term).await;
                membership::tend(&node, since).await;
            }
            Some(_) => reign = None,
            None => {
                reign = None;
                node.leases.step_down();
            }
        }
    }
}

async fn end_leases(node: &Arc<Node>, term: u64) {
    if !node.leases.leads(term) && !take_over_leases(node, term).await {
        return;
    }
    for id in node.leases.ended(Instant::now()) {
        let node = Arc::clone(node);
        node.tracker.clone().spawn(async move {
            let ended = node.write(Command::LeaseTimeOut { id, term }).await;
            let gone = matches!(ended, Ok(Reply::LeaseEndedAt { .. } | Reply::LeaseNotFound { .. }));
            node.leases.finished(id, gone);
        });
    }
}

async fn take_over_leases(node: &Arc<Node>, term: u64) -> bool {
    node.leases.begin(term);
    // Everything that was committed before this leadership must be applied, or a lease could be missed.
    let Ok((log_id, _)) = node.raft.get_read_log_id(openraft::ReadPolicy::ReadIndex).await else { return false };
    node.applied(Some(log_id.index())).await;
    match state::leases(&node.view.state().records) {
        Ok(leases) => {
            let leases = leases.into_iter().map(|(id, record)| (id, Duration::from_millis(record.ttl_ms)));
            node.leases.take_over(term, leases, Instant::now());
            true
        }
        Err(error) => {
            tracing::error!(%error, "cannot read the leases");
            false
        }
    }
}
