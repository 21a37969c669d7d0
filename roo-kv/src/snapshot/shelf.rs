//! The directory with the snapshots.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{KIND, SnapshotFile, SnapshotHeader};
use crate::disk::{Disk, File};
use crate::raft::LogIdForm;
use crate::records::RecordWriter;

/// A file is synced in steps while it grows: the log, on the same disk, would wait long behind one large sync.
const SYNC_BYTES: u64 = 4 << 20;

const EXTENSION: &str = "snapshot";
const UNFINISHED: &str = "unfinished";

/// Keeps the newest snapshot. An older one would be of no use, as the log begins near the newest.
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    newest: Mutex<Option<(SnapshotHeader, SnapshotFile)>>,
    unfinished: AtomicU64,
}

impl Shelf {
    /// Opens the directory, removes what was left unfinished, and finds the newest snapshot that is whole.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        disk.create_dir(dir)?;
        disk.sync_dir(dir.parent().unwrap_or(dir))?;
        let mut finished = Vec::new();
        for path in disk.list(dir)? {
            match path.extension().and_then(|e| e.to_str()) {
                Some(EXTENSION) => finished.push(path),
                Some(UNFINISHED) => disk.remove(&path)?,
                _ => {}
            }
        }
        let newest = finished.iter().rev().find_map(|path| match whole(&*disk, path) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a snapshot is not usable; trying an older one");
                None
            }
        });
        Ok(Self { disk, dir: dir.to_owned(), newest: Mutex::new(newest), unfinished: AtomicU64::new(0) })
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<(SnapshotHeader, SnapshotFile)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new file, to be written or received. Blocking.
    pub(crate) fn begin(&self) -> io::Result<Unfinished> {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number}.{UNFINISHED}"));
        let file = self.disk.create(&path)?;
        let scrap = Arc::new(Scrap { disk: Arc::clone(&self.disk), path });
        Ok(Unfinished { file, length: AtomicU64::new(0), synced: AtomicU64::new(0), scrap })
    }

    /// Writes a snapshot and puts it on the shelf. Blocking.
    pub(crate) fn write<'a>(
        &self,
        header: &SnapshotHeader,
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> io::Result<SnapshotFile> {
        let unfinished = self.begin()?;
        let mut writer = RecordWriter::begin(KIND, &unfinished, header)?;
        for (key, value) in records {
            writer.record(key, value)?;
        }
        writer.finish()?;
        self.put(&unfinished.finish()?, header)
    }

    /// Takes a file that is whole and synced; it survives a power cut from here on. Blocking.
    pub(crate) fn put(&self, file: &SnapshotFile, header: &SnapshotHeader) -> io::Result<SnapshotFile> {
        let finished = self.dir.join(name(header.meta.applied));
        if file.path() != finished {
            self.disk.rename(file.path(), &finished)?;
            self.disk.sync_dir(&self.dir)?;
        }
        let file = SnapshotFile::open(&*self.disk, &finished)?;
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest.as_ref().and_then(|(header, _)| header.meta.applied);
        if header.meta.applied >= known {
            *newest = Some((header.clone(), file.clone()));
        }
        let kept = newest.as_ref().map(|(_, file)| file.path().to_owned());
        drop(newest);
        self.remove_others(kept.as_deref());
        Ok(file)
    }

    fn remove_others(&self, kept: Option<&Path>) {
        let Ok(paths) = self.disk.list(&self.dir) else { return };
        let finished = paths.iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
        for path in finished.filter(|path| Some(path.as_path()) != kept) {
            if let Err(error) = self.disk.remove(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old snapshot");
            }
        }
    }
}

/// A file that grows. It is removed with its last handle, unless it was put on the shelf.
pub(crate) struct Unfinished {
    file: Arc<dyn File>,
    length: AtomicU64,
    synced: AtomicU64,
    scrap: Arc<Scrap>,
}

impl Unfinished {
    /// Bytes written so far.
    pub(crate) fn len(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Adds bytes at the end; one writer at a time. Blocking.
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let length = self.len();
        self.file.write_all_at(bytes, length)?;
        let length = length + bytes.len() as u64;
        if length - self.synced.load(Ordering::Relaxed) >= SYNC_BYTES {
            self.file.sync()?;
            self.synced.store(length, Ordering::Relaxed);
        }
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    /// Makes it durable. Blocking.
    pub(crate) fn finish(&self) -> io::Result<SnapshotFile> {
        self.file.sync()?;
        Ok(SnapshotFile::unfinished(Arc::clone(&self.file), Arc::clone(&self.scrap)))
    }
}

impl Write for &Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of an unfinished file, which goes with the last who needs it.
#[derive(Debug)]
pub(super) struct Scrap {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Scrap {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // Under its name there is nothing if it was put on the shelf; the next start removes what stays behind here.
        drop(self.disk.remove(&self.path));
    }
}

fn whole(disk: &dyn Disk, path: &Path) -> io::Result<(SnapshotHeader, SnapshotFile)> {
    let file = SnapshotFile::open(disk, path)?;
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
    use crate::disk::{Cut, SimulatedDisk};
    use crate::state::Meta;

    const DIR: &str = "/data/snapshots";

    fn header(index: u64) -> SnapshotHeader {
        let applied = Some(LogIdForm { term: 1, node: 1, index });
        SnapshotHeader { meta: Meta { applied, ..Meta::default() } }
    }

    fn open(disk: &SimulatedDisk) -> Shelf {
        Shelf::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap()
    }

    #[test]
    fn the_newest_is_kept_and_what_is_damaged_or_unfinished_is_passed_over() {
        let disk = SimulatedDisk::new();
        let shelf = open(&disk);
        assert!(shelf.newest().is_none());
        for index in [5, 100, 20_000] {
            shelf.write(&header(index), [(&b"k"[..], &b"v"[..])]).unwrap();
        }
        assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 1);
        let newest = shelf.newest().unwrap();
        assert_eq!(newest.0, header(20_000));

        let left_behind = Path::new(DIR).join("9.unfinished");
        disk.create(&left_behind).unwrap();
        assert_eq!(open(&disk).newest().unwrap().0, header(20_000));
        assert!(!disk.list(Path::new(DIR)).unwrap().contains(&left_behind));
        disk.damage(newest.1.path(), 20, |byte| byte ^ 1);
        assert!(open(&disk).newest().is_none());
    }

    #[test]
    fn after_a_power_cut_the_old_snapshot_or_the_new_one_is_there() {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/data")).unwrap();
        let disk = disk.settled();
        let shelf = open(&disk);
        shelf.write(&header(5), [(&b"k"[..], &b"old"[..])]).unwrap();
        disk.record();
        let mut platter = disk.platter();
        shelf.write(&header(9), [(&b"k"[..], &b"new".repeat(1000)[..])]).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let history = disk.history();
        for (done, op) in history.iter().enumerate() {
            platter.apply(op);
            for cut in (0..30).map(Cut::Random).chain([Cut::Nothing]) {
                let left = SimulatedDisk::from(platter.cut(cut));
                let newest = open(&left).newest().expect("one of them is there");
                let index = newest.0.meta.applied.unwrap().index;
                assert!(index == 9 || done + 1 < history.len(), "after {op:?} and {cut:?}");
                seen.insert(index);
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [5, 9]);
    }
}
