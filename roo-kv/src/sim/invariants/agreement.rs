//! State machines that have applied the same entries are the same.

use std::collections::BTreeMap;

use crate::Revision;
use crate::node::Node;
use crate::raft::LogIdForm;
use crate::state::{encode, history_key};
use crate::view::State;

/// Of the history, which only grows, the newest is compared each time and all of it only now and then.
const NEWEST_REVISIONS: u64 = 16;
const ALL_EVERY: u64 = 64;

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
        let hash = hash(&state, applied.index.is_multiple_of(ALL_EVERY))?;
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

fn hash(state: &State, all: bool) -> Result<u32, String> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&encode(&state.meta).map_err(|error| error.to_string())?);
    let old = history_key(Revision(0));
    let newest = history_key(Revision(if all { 0 } else { state.meta.revision.0.saturating_sub(NEWEST_REVISIONS) }));
    let before = state.records.range(&[]).take_while(|(key, _)| *key < old.as_slice());
    for (key, value) in before.chain(state.records.range(&newest)) {
        hasher.update(key);
        hasher.update(value);
    }
    Ok(hasher.finalize())
}
