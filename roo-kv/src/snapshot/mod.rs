//! Snapshots: files with the whole state at one point of the log, which is what allows the log to be purged.

mod arrival;
mod file;
mod meter;
mod shelf;

pub(crate) use arrival::{Arrival, Chunk};
pub(crate) use file::{SnapshotFile, SnapshotHeader, SnapshotId};
pub(crate) use meter::LogMeter;
pub(crate) use shelf::Shelf;
