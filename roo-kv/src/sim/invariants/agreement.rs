//! State machines that have applied the same entries are the same.

use std::collections::BTreeMap;

use crate::node::Node;
use crate::raft::LogIdForm;
use crate::state::encode;

#[derive(Default)]
pub(in crate::sim) struct Agreement {
    /// By index: the entry, the hash of the state, and who had it first.
    states: BTreeMap<u64, (LogIdForm, u32, usize)>,
    /// Where each host was when it was last looked at.
    looked: BTreeMap<usize, LogIdForm>,
}

impl Agreement {
    pub(super) fn look(&mut self, host: usize, node: &Node) -> Result<(), String> {
        let state = node.view.state();
        let Some(applied) = state.meta.applied else { return Ok(()) };
        if self.looked.insert(host, applied) == Some(applied) {
            return Ok(());
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&encode(&state.meta).map_err(|error| error.to_string())?);
        for (key, value) in state.records.range(&[]) {
            hasher.update(key);
            hasher.update(value);
        }
        let hash = hasher.finalize();
        let (entry, first, by) = *self.states.entry(applied.index).or_insert((applied, hash, host));
        if entry != applied {
            return Err(format!("hosts {by} and {host} have applied {entry:?} and {applied:?}"));
        }
        if first != hash {
            return Err(format!("hosts {by} and {host} have different states at {applied:?}"));
        }
        Ok(())
    }
}
