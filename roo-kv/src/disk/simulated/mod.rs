//! A disk in memory that fails on demand and loses power.
#![cfg(test)]

mod platter;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File, SECTOR_BYTES};
use platter::Op;
pub(crate) use platter::{Cut, Op as DiskOp, Platter};

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

/// What a call does in place of its work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing, and fails with this number of the system; of a sync, what was to be synced may be lost.
    Error(i32),
    /// Writes at most so many bytes, and says so.
    Short(usize),
    /// Writes at most so many sectors, and fails.
    Torn(usize),
}

/// Numbers of the system: input/output error, no space, quota exceeded.
pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

#[derive(Debug, Default)]
struct State {
    platter: Platter,
    /// Calls so far that change or sync something.
    calls: u64,
    /// By the number of the call.
    faults: BTreeMap<u64, Fault>,
    capacity: Option<u64>,
    next_file: u64,
    lies: bool,
    history: Option<Vec<Op>>,
}

impl SimulatedDisk {
    /// An empty disk without faults.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The disk as a power cut leaves it. The old one can still be used by who does not know that it is gone.
    pub(crate) fn after_power_cut(&self, cut: Cut) -> Self {
        Self::from(self.state().platter.cut(cut))
    }

    /// Another disk with the same content, and nothing left to be lost.
    pub(crate) fn settled(&self) -> Self {
        Self::from(self.state().platter.cut(Cut::Nothing))
    }

    /// Has the call fail that comes after so many others that change or sync something.
    pub(crate) fn fail_after(&self, calls: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.calls + calls;
        state.faults.insert(at, fault);
    }

    /// How many calls have changed or synced something.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// From here on, says of files that they are synced, and syncs nothing.
    pub(crate) fn lie(&self) {
        self.state().lies = true;
    }

    /// Limits the bytes in all files.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The bytes in all files.
    pub(crate) fn used(&self) -> u64 {
        self.state().platter.used()
    }

    /// From here on, keeps what is done, in order.
    pub(crate) fn record(&self) {
        self.state().history.get_or_insert_default();
    }

    /// What it holds, and what of that is not durable yet.
    pub(crate) fn platter(&self) -> Platter {
        self.state().platter.clone()
    }

    /// How many things were done since [`record`](Self::record).
    pub(crate) fn recorded(&self) -> usize {
        self.state().history.as_ref().map_or(0, Vec::len)
    }

    /// What was done since [`record`](Self::record).
    pub(crate) fn history(&self) -> Vec<Op> {
        self.state().history.clone().unwrap_or_default()
    }

    /// Changes a byte of a file behind everybody's back, and durably.
    pub(crate) fn damage(&self, path: &Path, offset: u64, change: impl FnOnce(u8) -> u8) {
        self.state().platter.damage(path, offset, change);
    }

    /// The content of a file as programs see it.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.platter.file(path)?;
        Some(state.platter.content(id).to_vec())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Platter> for SimulatedDisk {
    fn from(platter: Platter) -> Self {
        let next_file = platter.last_file() + 1;
        Self(Arc::new(Mutex::new(State { platter, next_file, ..State::default() })))
    }
}

impl State {
    /// Counts the call; tells what goes wrong with it.
    fn call(&mut self) -> Option<Fault> {
        let number = self.calls;
        self.calls += 1;
        self.faults.remove(&number)
    }

    /// The same for a call that writes no bytes: any fault is an error.
    fn whole_call(&mut self) -> io::Result<()> {
        match self.call() {
            None => Ok(()),
            Some(Fault::Error(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(Fault::Short(_) | Fault::Torn(_)) => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn perform(&mut self, op: Op) {
        self.platter.apply(&op);
        if let Some(history) = &mut self.history {
            history.push(op);
        }
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.platter.used()))
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut missing: Vec<PathBuf> = dir.ancestors().map(Path::to_owned).collect();
        missing.retain(|path| !state.platter.is_dir(path));
        for path in missing.into_iter().rev() {
            state.whole_call()?;
            state.perform(Op::CreateDir(path));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        if !state.platter.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.platter.names_in(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.whole_call()?;
        if state.room() == 0 {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        if !path.parent().is_some_and(|dir| state.platter.is_dir(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = match state.platter.file(path) {
            Some(id) => {
                state.perform(Op::Empty(id));
                id
            }
            None => {
                let id = state.next_file;
                state.next_file += 1;
                state.perform(Op::Create(path.to_owned(), id));
                id
            }
        };
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let id = self.state().platter.file(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        let id = state.platter.file(from).ok_or(io::ErrorKind::NotFound)?;
        state.perform(Op::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        state.platter.file(path).ok_or(io::ErrorKind::NotFound)?;
        state.perform(Op::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        state.perform(Op::SyncDir(dir.to_owned()));
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.state().room())
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
}

impl File for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let content = state.platter.content(self.id);
        let from = usize::try_from(offset).map_err(io::Error::other)?.min(content.len());
        let read = buffer.len().min(content.len() - from);
        buffer[..read].copy_from_slice(&content[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let fault = state.call();
        let grown = (offset + bytes.len() as u64).saturating_sub(state.platter.content(self.id).len() as u64);
        let missing = usize::try_from(grown.saturating_sub(state.room())).map_err(io::Error::other)?;
        let mut fit = bytes.len().saturating_sub(missing);
        let error = match fault {
            Some(Fault::Error(number)) => return Err(io::Error::from_raw_os_error(number)),
            Some(Fault::Short(most)) => {
                fit = fit.min(most);
                None
            }
            Some(Fault::Torn(sectors)) => {
                let to_boundary = SECTOR_BYTES - usize::try_from(offset).map_err(io::Error::other)? % SECTOR_BYTES;
                fit = fit.min(if sectors == 0 { 0 } else { to_boundary + (sectors - 1) * SECTOR_BYTES });
                Some(io::Error::from_raw_os_error(EIO))
            }
            None if fit == 0 && !bytes.is_empty() => return Err(io::Error::from_raw_os_error(ENOSPC)),
            None => None,
        };
        if fit > 0 {
            state.perform(Op::Write(self.id, offset, bytes[..fit].to_vec()));
        }
        error.map_or(Ok(fit), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Err(error) = state.whole_call() {
            state.perform(Op::FailedSync(self.id));
            return Err(error);
        }
        if !state.lies {
            state.perform(Op::Sync(self.id));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().platter.content(self.id).len() as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let (disk, path) = (disk(), Path::new("/d/f"));
        let file = disk.create(path).unwrap();
        file.write_all_at(b"one", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.after_power_cut(Cut::Pending(0, 0)).content(path), None, "its name was not synced");
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(b"two", 0).unwrap();
        assert_eq!(disk.after_power_cut(Cut::Pending(0, 0)).content(path).unwrap(), b"one");
        assert_eq!(disk.after_power_cut(Cut::Nothing).content(path).unwrap(), b"two");

        disk.rename(path, Path::new("/d/g")).unwrap();
        let cut = disk.after_power_cut(Cut::Pending(0, 0));
        assert_eq!(cut.list(Path::new("/d")).unwrap(), [path]);
        disk.sync_dir(Path::new("/d")).unwrap();
        let cut = disk.after_power_cut(Cut::Pending(0, 0));
        assert_eq!(cut.list(Path::new("/d")).unwrap(), [Path::new("/d/g")]);
    }

    #[test]
    fn an_unsynced_write_is_torn_between_sectors() {
        let (disk, path) = (disk(), Path::new("/d/f"));
        let file = disk.create(path).unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[1; 2000], 100).unwrap();
        let prefix = disk.after_power_cut(Cut::Pending(0, 2)).content(path).unwrap();
        assert_eq!((prefix[99], prefix[100], prefix[1023], prefix[1024]), (0, 1, 1, 0));
        let images: std::collections::BTreeSet<Vec<u8>> =
            (0..100).map(|seed| disk.after_power_cut(Cut::Random(seed)).content(path).unwrap()).collect();
        assert!(images.len() > 20, "sectors come in any order, {} images", images.len());
        assert!(images.iter().all(|image| image[..100].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn faults_come_when_they_are_due() {
        let disk = disk();
        let file = disk.create(Path::new("/d/f")).unwrap();
        disk.fail_after(0, Fault::Short(2));
        assert_eq!(file.write_at(b"hello", 0).unwrap(), 2);
        disk.fail_after(1, Fault::Error(EIO));
        file.write_all_at(b"hello", 0).unwrap();
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        let content = disk.after_power_cut(Cut::Pending(0, 0)).content(Path::new("/d/f")).unwrap();
        assert_eq!(content, b"", "a sync after a failed one brings nothing back");
    }

    #[test]
    fn a_full_disk_takes_what_has_its_place_already() {
        let disk = disk();
        let file = disk.create(Path::new("/d/f")).unwrap();
        disk.set_capacity(Some(10));
        assert_eq!(file.write_at(&[1; 20], 0).unwrap(), 10);
        assert!(super::super::is_full(&file.write_at(&[1], 10).unwrap_err()));
        file.write_all_at(&[2; 10], 0).unwrap();
        assert!(super::super::is_full(&disk.create(Path::new("/d/g")).unwrap_err()));
        disk.set_capacity(None);
        file.write_all_at(&[1; 20], 0).unwrap();
    }
}
