//! What a node does about a disk that fills up: a leader without room hands over to a voter that has some.

use std::sync::Arc;
use std::time::Duration;

use crate::node::{ATTEMPT_PATIENCE, Node};
use crate::peer::{Answer, Ask};
use crate::raft::Room;
use crate::runtime::blocking;

/// Between looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until the node stops.
pub(crate) async fn watch(node: Arc<Node>) {
    loop {
        tokio::select! {
            biased;
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        let log = node.log.clone();
        let looked = blocking(move || {
            log.look_for_room();
            Ok(())
        });
        if looked.await.is_ok() && node.log.room() != Room::Enough && node.leading().is_some() {
            hand_over(&node).await;
        }
    }
}

async fn hand_over(node: &Node) {
    let status = node.status.borrow().clone();
    let voters = status.members.iter().filter(|member| member.voter && member.reachable && member.id != node.id());
    for voter in voters {
        let asked = node.links.ask(voter.id, Some(&voter.address), Ask::Room, ATTEMPT_PATIENCE).await;
        if matches!(asked, Ok(Answer::Room(true))) {
            tracing::warn!(heir = %voter.id, "the disk is full; the leadership is handed over");
            if let Err(error) = node.raft.trigger().transfer_leader(voter.id.0).await {
                tracing::debug!(%error, "the leadership could not be handed over");
            }
            return;
        }
    }
}
