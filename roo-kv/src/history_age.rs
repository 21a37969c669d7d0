//! When the history of changes has become too old: the leader's monotonic clock decides, the log carries it out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::{Command, Reply};
use crate::id::Revision;
use crate::node::Node;
use crate::state;

/// What happened longer ago is dropped, even if there is room for it.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// Between notes of the revision: how exact ages are.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Runs until the node stops; acts only while the node leads.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ages = Ages::default();
    loop {
        tokio::select! {
            biased;
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(NOTED_EVERY) => {}
        }
        if node.leading().is_none() {
            ages.forget();
            continue;
        }
        let now = Instant::now();
        ages.note(node.view.state().meta.revision, now);
        if let Some(below) = ages.too_old_below(now) {
            trim(&node, below).await;
        }
    }
}

/// Each command drops as much as does not hold up others.
async fn trim(node: &Node, below: Revision) {
    let state = node.view.state();
    let kept = state::oldest(&state.records, state.meta.revision);
    let mut oldest = kept.unwrap_or(below);
    while oldest < below {
        match node.write(Command::TrimHistory { below }).await {
            Ok(Reply::HistoryTrimmed { oldest: now }) if now > oldest => oldest = now,
            // Nothing is left to drop; or it is tried again with the next note.
            _ => return,
        }
    }
}

/// The revisions of one leadership. A new leader knows none, so that the history lives longer then, never shorter.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    notes: VecDeque<(Instant, Revision)>,
}

impl Ages {
    /// Takes note of where the store is. Called often; most calls do nothing.
    pub(crate) fn note(&mut self, revision: Revision, now: Instant) {
        if self.notes.back().is_none_or(|(at, _)| now.duration_since(*at) >= NOTED_EVERY) {
            self.notes.push_back((now, revision));
        }
    }

    /// Below which revision everything is too old.
    pub(crate) fn too_old_below(&mut self, now: Instant) -> Option<Revision> {
        let mut newest = None;
        while let Some((_, revision)) = self.notes.front().filter(|(at, _)| now.duration_since(*at) >= AGE_MAX) {
            // What happened after the note is younger than it.
            newest = Some(Revision(revision.0 + 1));
            if self.notes.get(1).is_none_or(|(at, _)| now.duration_since(*at) < AGE_MAX) {
                break;
            }
            self.notes.pop_front();
        }
        newest
    }

    /// Ends a leadership.
    pub(crate) fn forget(&mut self) {
        self.notes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_before_a_note_that_is_old_enough_is_too_old() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let mut ages = Ages::default();
        assert_eq!(ages.too_old_below(start), None);
        for n in 0..90 {
            ages.note(Revision(u64::from(n)), start + minute * n);
            ages.note(Revision(1000), start + minute * n + minute / 2);
        }
        assert_eq!(ages.too_old_below(start + AGE_MAX - minute / 2), None);
        assert_eq!(ages.too_old_below(start + AGE_MAX), Some(Revision(1)));
        assert_eq!(ages.too_old_below(start + AGE_MAX), Some(Revision(1)), "until it is carried out");
        assert_eq!(ages.too_old_below(start + AGE_MAX + minute * 10), Some(Revision(11)));
        assert!(ages.notes.len() <= 90 - 10);
        ages.forget();
        assert_eq!(ages.too_old_below(start + AGE_MAX * 9), None);
    }
}
