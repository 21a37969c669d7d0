//! The log is never purged above what a snapshot on the disk holds.

use crate::node::Node;

pub(super) fn look(host: usize, node: &Node) -> Result<(), String> {
    let (purged, _) = node.log.bounds();
    let snapshot = node.shelf.newest().and_then(|(header, _)| header.meta.applied);
    if purged > snapshot {
        return Err(format!("host {host} has purged up to {purged:?}, its snapshot ends at {snapshot:?}"));
    }
    Ok(())
}
