//! When a snapshot is due and how much of the log may go afterwards: pure decisions by size.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// A snapshot is worth writing once the log since the last one has this share of the state's size, and at least
/// [`DUE_BYTES_MIN`]: writing snapshots then costs a few times the bytes of the log, whatever the size of the state.
const DUE_SHARE: u64 = 4;
const DUE_BYTES_MIN: u64 = 16 << 20;

/// Or once this many entries were applied since: looking for a place in a long log takes time and memory too.
const DUE_ENTRIES: u64 = 200_000;

/// What is left of the log before the snapshot, as a share of the state's size and at least: a node that was away for a
/// moment catches up from it.
const KEPT_SHARE: u64 = 8;
const KEPT_BYTES_MIN: u64 = 8 << 20;

/// Marks are so far apart, so that there are few.
const MARK_BYTES: u64 = 256 << 10;
const MARK_ENTRIES: u64 = 1024;

/// Counts the bytes of the log as it is applied.
pub(crate) struct LogMeter(Mutex<Meter>);

struct Meter {
    /// Places in the log and the bytes up to and with them, ascending.
    marks: VecDeque<Mark>,
    last: Mark,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    index: u64,
    bytes: u64,
}

impl LogMeter {
    /// For a state that contains the entry at `applied`, and a log that has so many bytes.
    pub(crate) fn new(applied: u64, bytes: u64) -> Self {
        let last = Mark { index: applied, bytes };
        Self(Mutex::new(Meter { marks: VecDeque::from([Mark::default(), last]), last }))
    }

    /// An entry was applied.
    pub(crate) fn applied(&self, index: u64, bytes: u64) {
        let mut meter = self.lock();
        meter.last = Mark { index, bytes: meter.last.bytes + bytes };
        let marked = meter.marks.back().copied().unwrap_or_default();
        if meter.last.bytes - marked.bytes >= MARK_BYTES || index - marked.index.min(index) >= MARK_ENTRIES {
            let mark = meter.last;
            meter.marks.push_back(mark);
        }
    }

    /// Whether a snapshot should be taken, given the last one and the size of the state.
    pub(crate) fn is_due(&self, snapshot: Option<u64>, state_bytes: u64) -> bool {
        let meter = self.lock();
        let snapshot = snapshot.unwrap_or(0);
        let bytes = meter.last.bytes - meter.bytes_at(snapshot);
        let entries = meter.last.index.saturating_sub(snapshot);
        entries > 0 && (bytes >= DUE_BYTES_MIN.max(state_bytes / DUE_SHARE) || entries >= DUE_ENTRIES)
    }

    /// The last entry that need not be kept once there is a snapshot; `None`: all are kept.
    pub(crate) fn purgeable(&self, snapshot: u64, state_bytes: u64) -> Option<u64> {
        let mut meter = self.lock();
        let goal = meter.bytes_at(snapshot).saturating_sub(KEPT_BYTES_MIN.max(state_bytes / KEPT_SHARE));
        // The first place from which on little enough is left.
        let first = meter.marks.partition_point(|mark| mark.bytes < goal);
        let purgeable = meter.marks.get(first).map_or(snapshot, |mark| mark.index.min(snapshot));
        meter.marks.drain(..first);
        (purgeable > 0).then_some(purgeable)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Meter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    fn bytes_at(&self, index: u64) -> u64 {
        let behind = self.marks.partition_point(|mark| mark.index <= index);
        behind.checked_sub(1).and_then(|at| self.marks.get(at)).map_or(0, |mark| mark.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn filled(entries: u64, bytes: u64) -> LogMeter {
        let meter = LogMeter::new(0, 0);
        (1..=entries).for_each(|index| meter.applied(index, bytes));
        meter
    }

    #[test]
    fn a_snapshot_is_due_by_bytes_or_by_entries() {
        assert!(!filled(15, MIB).is_due(None, 0));
        assert!(filled(16, MIB).is_due(None, 0));
        assert!(!filled(20, MIB).is_due(Some(10), 0));
        assert!(!filled(20, MIB).is_due(None, 100 * MIB), "a large state is not written for a little log");
        assert!(filled(25, MIB).is_due(None, 100 * MIB));
        assert!(!filled(DUE_ENTRIES - 1, 10).is_due(None, 0));
        assert!(filled(DUE_ENTRIES, 10).is_due(None, 0));
        assert!(!LogMeter::new(0, 0).is_due(None, 0));
    }

    #[test]
    fn a_bounded_part_of_the_log_is_kept_before_the_snapshot() {
        assert_eq!(filled(8, MIB).purgeable(8, 0), None);
        assert_eq!(filled(100, MIB).purgeable(100, 0), Some(92));
        assert_eq!(filled(100, MIB).purgeable(50, 0), Some(42));
        assert_eq!(filled(100, MIB).purgeable(100, 400 * MIB), Some(50));
        let meter = filled(100, MIB);
        assert_eq!(meter.purgeable(50, 0), Some(42));
        assert_eq!(meter.purgeable(100, 0), Some(92), "it goes on");
    }

    #[test]
    fn what_was_in_the_log_before_a_restart_counts() {
        let meter = LogMeter::new(1000, 30 * MIB);
        meter.applied(1001, 10);
        assert!(meter.is_due(None, 0));
        assert!(!meter.is_due(Some(1001), 0));
        assert_eq!(meter.purgeable(1001, 0), Some(1000));
        let meter = LogMeter::new(1000, MIB);
        assert_eq!(meter.purgeable(1000, 0), None);
    }
}
