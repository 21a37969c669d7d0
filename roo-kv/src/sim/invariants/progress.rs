//! The revision of a running node only grows, and what it applied was committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::Revision;
use crate::node::Node;

#[derive(Default)]
pub(in crate::sim) struct Progress {
    /// By host: in which run it was how far.
    seen: BTreeMap<usize, (Weak<Node>, Option<u64>, Revision)>,
}

impl Progress {
    pub(super) fn look(&mut self, host: usize, node: &Arc<Node>) -> Result<(), String> {
        let now = *node.view.progress().borrow();
        if let Some((run, applied, revision)) = self.seen.get(&host)
            && run.as_ptr() == Arc::as_ptr(node)
            && (now.applied < *applied || now.revision < *revision)
        {
            return Err(format!("host {host} went back from {revision} to {}", now.revision));
        }
        self.seen.insert(host, (Arc::downgrade(node), now.applied, now.revision));
        Ok(())
    }
}
