//! The directory with the snapshots.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::file::{SnapshotFile, SnapshotHeader, SnapshotWriter};
use crate::durable;
use crate::raft::LogIdForm;

/// Finished snapshots that are kept.
const KEEP: usize = 2;
const EXTENSION: &str = "snapshot";
const UNFINISHED: &str = "unfinished";

/// Keeps the newest snapshots; hands out the newest.
pub(crate) struct Shelf {
    dir: PathBuf,
    newest: Mutex<Option<(SnapshotHeader, SnapshotFile)>>,
    unfinished: AtomicU64,
}

impl Shelf {
    /// Opens the directory, removes what was left unfinished, and finds the newest snapshot that is whole.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut finished = Vec::new();
        for item in fs::read_dir(dir)? {
            let path = item?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some(EXTENSION) => finished.push(path),
                Some(UNFINISHED) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        finished.sort();
        let newest = finished.iter().rev().find_map(|path| match whole(path) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a snapshot is not usable; trying an older one");
                None
            }
        });
        Ok(Self { dir: dir.to_owned(), newest: Mutex::new(newest), unfinished: AtomicU64::new(0) })
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<(SnapshotHeader, SnapshotFile)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new name for a file that is being written or received.
    pub(crate) fn unfinished_path(&self) -> PathBuf {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{number}.{UNFINISHED}"))
    }

    /// Writes a snapshot and puts it on the shelf. Blocking.
    pub(crate) fn write(
        &self,
        header: &SnapshotHeader,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> io::Result<SnapshotFile> {
        let path = self.unfinished_path();
        let mut writer = SnapshotWriter::begin(BufWriter::new(File::create(&path)?), header)?;
        for (key, value) in records {
            writer.record(key, value)?;
        }
        writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        self.put(&path, header)
    }

    /// Takes a file that is whole and synced; it survives a power cut from here on. Blocking.
    pub(crate) fn put(&self, path: &Path, header: &SnapshotHeader) -> io::Result<SnapshotFile> {
        let finished = self.dir.join(name(header.meta.applied));
        if path != finished {
            fs::rename(path, &finished)?;
            durable::sync_parent(&finished)?;
        }
        let file = SnapshotFile::open(&finished)?;
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest.as_ref().and_then(|(header, _)| header.meta.applied);
        if header.meta.applied >= known {
            *newest = Some((header.clone(), file.clone()));
        }
        drop(newest);
        self.remove_old();
        Ok(file)
    }

    fn remove_old(&self) {
        let Ok(items) = fs::read_dir(&self.dir) else { return };
        let mut finished: Vec<PathBuf> = items
            .filter_map(|item| Some(item.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == EXTENSION))
            .collect();
        finished.sort();
        let surplus = finished.len().saturating_sub(KEEP);
        for path in &finished[..surplus] {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old snapshot");
            }
        }
    }
}

fn whole(path: &Path) -> io::Result<(SnapshotHeader, SnapshotFile)> {
    let file = SnapshotFile::open(path)?;
    Ok((file.verify()?, file))
}

/// Names sort as the places in the log do.
fn name(applied: Option<LogIdForm>) -> String {
    let id = applied.unwrap_or_default();
    format!("{:020}-{:020}-{:016x}.{EXTENSION}", id.index, id.term, id.node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::Meta;

    fn header(index: u64) -> SnapshotHeader {
        let applied = Some(LogIdForm { term: 1, node: 1, index });
        SnapshotHeader { meta: Meta { applied, ..Meta::default() } }
    }

    #[test]
    fn the_two_newest_are_kept_and_a_damaged_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path()).unwrap();
        assert!(shelf.newest().is_none());
        for index in [5, 100, 20_000] {
            shelf.write(&header(index), [(b"k".to_vec(), b"v".to_vec())]).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let newest = shelf.newest().unwrap();
        assert_eq!(newest.0, header(20_000));

        fs::write(&newest.1.path, b"garbage").unwrap();
        fs::write(dir.path().join("9.unfinished"), b"").unwrap();
        let shelf = Shelf::open(dir.path()).unwrap();
        assert_eq!(shelf.newest().unwrap().0, header(100));
        assert!(!dir.path().join("9.unfinished").exists());
    }
}
