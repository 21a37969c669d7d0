//! Watchers see every change once, in order, and all the same.

use std::collections::BTreeMap;

use crate::sim::history::{History, by_revision};
use crate::{Event, Revision};

pub(super) fn check(history: &History) -> Result<(), String> {
    let changes = history.changes();
    for watched in &history.watched {
        let host = watched.host;
        let mut at: Option<Revision> = None;
        for batch in &watched.batches {
            if batch.reset {
                at = Some(batch.revision);
                continue;
            }
            let Some(before) = at else { return Err(format!("a watch on host {host} does not begin with a reset")) };
            if !batch.events.is_sorted_by_key(Event::revision) {
                return Err(format!("a batch on host {host} is not in order: {batch:?}"));
            }
            let got = by_revision(&batch.events);
            let due: BTreeMap<Revision, Vec<Event>> = changes
                .range(Revision(before.0 + 1)..=batch.revision)
                .map(|(revision, events)| (*revision, events.clone()))
                .collect();
            if got != due {
                return Err(format!(
                    "a watch on host {host} at {before} got {:?} and should have got {:?} up to {}",
                    got, due, batch.revision
                ));
            }
            at = Some(batch.revision);
        }
    }
    Ok(())
}
