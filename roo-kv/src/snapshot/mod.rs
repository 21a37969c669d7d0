//! Snapshots: files with the whole state at one point of the log, which is what allows the log to be purged.

mod file;
mod shelf;

pub(crate) use file::{SnapshotFile, SnapshotHeader};
pub(crate) use shelf::Shelf;
