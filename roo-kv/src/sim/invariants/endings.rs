//! A node ends by itself only if its disk has failed. A full disk is not a failed one.

use crate::Phase;
use crate::node::Node;
use crate::sim::host::Host;

pub(super) fn look(host: &Host, node: &Node) -> Result<(), String> {
    match &node.status.borrow().phase {
        Phase::Failed { reason } if !host.disk_fails => Err(format!("host {} has ended: {reason}", host.number)),
        _ => Ok(()),
    }
}
