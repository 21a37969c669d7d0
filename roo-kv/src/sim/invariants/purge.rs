//! The log is never purged above what a snapshot on the disk holds.

use openraft::async_runtime::WatchReceiver;

use crate::node::Node;
use crate::raft::LogIdForm;

pub(super) fn look(host: usize, node: &Node) -> Result<(), String> {
    let purged = node.raft.metrics().borrow_watched().purged.as_ref().map(LogIdForm::from);
    let snapshot = node.shelf.newest().and_then(|(header, _)| header.meta.applied);
    if purged > snapshot {
        return Err(format!("host {host} has purged up to {purged:?}, its snapshot ends at {snapshot:?}"));
    }
    Ok(())
}
