//! The disk as the store uses it: few calls, so that tests can put one in its place that loses power or fails.
//!
//! What may be relied on is what POSIX says, and no more. Bytes written count after [`File::sync`], names after
//! [`Disk::sync_dir`] of their directory; until then a power cut may leave any part of both, in any order, in whole
//! sectors of [`SECTOR_BYTES`].

mod real;
#[cfg(test)]
mod simulated;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use real::RealDisk;
#[cfg(test)]
pub(crate) use simulated::{Cut, DiskOp, EIO, ENOSPC, Fault, Platter, SimulatedDisk};

/// What a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

/// A file system. All calls block.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    /// Creates a directory and those above it; one that exists is left as it is.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The paths of the files and directories in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Creates a file, or empties one that exists. Only this user may read it.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists, to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Renames a file within its directory, in place of another of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Who has it open can still use it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created, renamed and removed in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How many bytes an ordinary user may still write below a directory.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub(crate) trait File: Debug + Send + Sync + 'static {
    /// Reads at most as many bytes as fit; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes from the front, and says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the bytes and the length durable, as `fdatasync` does. After an error nobody knows what of the bytes written
    /// since the last success is on the disk, and calling it again does not tell.
    fn sync(&self) -> io::Result<()>;

    /// Its length.
    fn len(&self) -> io::Result<u64>;

    /// Writes all bytes, or fails with some of them written.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills the buffer, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Everything in it.
    fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len()?).map_err(io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Whether a write failed only for want of room: nothing is broken, and it may succeed later.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn behaves_as_a_file_system(disk: &dyn Disk, root: &Path) {
        let dir = root.join("a/b");
        disk.create_dir(&dir).unwrap();
        disk.create_dir(&dir).unwrap();
        let file = disk.create(&dir.join("one")).unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        file.write_all_at(b"world", 6).unwrap();
        file.sync().unwrap();
        assert_eq!(file.read_all().unwrap(), b"\0\0\0helworld");
        assert_eq!(file.read_at(&mut [0; 9], 11).unwrap(), 0);
        assert_eq!(file.read_exact_at(&mut [0; 9], 9).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        disk.create(&dir.join("two")).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), [dir.join("one"), dir.join("two")]);

        disk.rename(&dir.join("one"), &dir.join("two")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), [dir.join("two")]);
        let opened = disk.open(&dir.join("two")).unwrap();
        assert_eq!(opened.len().unwrap(), 11);
        disk.remove(&dir.join("two")).unwrap();
        assert_eq!(opened.read_all().unwrap().len(), 11, "it can be used by who has it open");

        for error in [disk.open(&dir.join("two")).unwrap_err(), disk.remove(&dir.join("two")).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        assert_eq!(disk.list(&root.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.free_bytes(root).unwrap() > 0);
    }

    #[test]
    fn the_real_disk_behaves() {
        let dir = tempfile::tempdir().unwrap();
        behaves_as_a_file_system(&RealDisk, dir.path());
    }

    #[test]
    fn the_simulated_disk_behaves() {
        behaves_as_a_file_system(&SimulatedDisk::new(), Path::new("/data"));
    }
}
