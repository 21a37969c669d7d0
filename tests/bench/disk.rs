//! What directories take on the disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;

/// Bytes on the disk below `dir`: the blocks that files have, not their lengths.
pub fn used(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may be removed meanwhile.
        let Ok(facts) = entry.metadata() else { continue };
        bytes += if facts.is_dir() { used(&entry.path())? } else { facts.blocks() * 512 };
    }
    Ok(bytes)
}
