//! What a node takes on its disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::node::Node;

/// Bytes on the disk, as they are allocated there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The log.
    pub log: u64,
    /// The snapshots.
    pub snapshots: u64,
    /// The state.
    pub state: u64,
    /// The newest snapshot, if there is one.
    pub newest_snapshot: Option<SnapshotFootprint>,
}

/// A snapshot on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFootprint {
    /// The last entry of the log that it contains.
    pub index: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was finished.
    pub taken: SystemTime,
}

impl Node {
    /// Measures. Blocking.
    pub(crate) fn footprint(&self) -> Footprint {
        let newest_snapshot = self.shelf.newest().and_then(|(header, file)| {
            let metadata = fs::metadata(file.path()).ok()?;
            let index = header.meta.applied?.index;
            Some(SnapshotFootprint { index, bytes: metadata.len(), taken: metadata.modified().ok()? })
        });
        let below = |name: &str| allocated(&self.data_dir.join(name)).unwrap_or(0);
        Footprint { log: below("wal"), snapshots: below("snapshots"), state: below("db"), newest_snapshot }
    }
}

/// Files may come and go meanwhile.
fn allocated(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for item in fs::read_dir(dir)? {
        let Ok(item) = item else { continue };
        match item.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += allocated(&item.path()).unwrap_or(0),
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(_) => {}
        }
    }
    Ok(bytes)
}
