//! Worlds that break what the store relies on, or lie about what it did: to show that each invariant can fail.

/// What is wrong with a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Reads that count as linearizable are stale.
    StaleReads,
    /// Disks say that something is synced before it is.
    LyingDisks,
    /// A node's state holds something that is in no log.
    PrivateWrite,
    /// A node's state is put back to what it was before.
    StateGoesBack,
    /// Clocks go twice as fast as they may.
    FastClocks,
    /// After each crash a disk is as it was a while ago.
    OldDisks,
    /// The log is purged up to its end.
    PurgedTooFar,
    /// Some of what watchers get is not written down.
    LossyWatch,
    /// A node that is cut off stays so.
    LastingCut,
    /// Disks fail, and nobody takes note of it.
    UnnotedDiskFaults,
    /// A task of a node panics.
    Panic,
}
