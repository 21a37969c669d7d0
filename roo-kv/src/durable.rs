//! Small files that survive a power cut: written aside, synced, renamed, and the directory synced.
//!
//! A file is `version (1) | CRC-32 of the body (4, little endian) | body in postcard`.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::Disk;

const HEADER_BYTES: usize = 5;

/// Writes a record in place of what the file held. Returns after it is on stable storage.
pub(crate) fn write<T: Serialize>(disk: &dyn Disk, path: &Path, version: u8, record: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.push(version);
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);

    let temporary = path.with_extension("new");
    let file = disk.create(&temporary)?;
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    sync_parent(disk, path)
}

/// Reads a record; `None` if there is no file.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with a sentence that names the fault.
pub(crate) fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path, version: u8) -> io::Result<Option<T>> {
    let bytes = match disk.open(path) {
        Ok(file) => file.read_all()?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let damaged = |fault: &str| io::Error::new(io::ErrorKind::InvalidData, fault.to_owned());
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| damaged("it is cut short"))?;
    let [found, crc @ ..] = *header;
    if found != version {
        return Err(damaged(&format!("it has format {found}, this version reads {version}")));
    }
    if u32::from_le_bytes(crc) != crc32fast::hash(body) {
        return Err(damaged("its checksum is wrong"));
    }
    postcard::from_bytes(body).map(Some).map_err(|e| damaged(&format!("its content is wrong: {e}")))
}

/// Makes a rename or a removal in the file's directory durable.
pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.sync_dir(path.parent().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;
    use crate::disk::{Cut, SimulatedDisk};

    fn disk() -> (SimulatedDisk, PathBuf) {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/data")).unwrap();
        (disk.settled(), PathBuf::from("/data/record"))
    }

    #[test]
    fn a_record_comes_back_and_damage_is_named() {
        let (disk, path) = disk();
        assert_eq!(read::<String>(&disk, &path, 1).unwrap(), None);
        write(&disk, &path, 1, &"hello").unwrap();
        assert_eq!(read::<String>(&disk, &path, 1).unwrap().as_deref(), Some("hello"));
        assert!(read::<String>(&disk, &path, 2).unwrap_err().to_string().contains("format 1"));

        let length = disk.content(&path).unwrap().len() as u64;
        for offset in 0..length {
            let disk = disk.settled();
            disk.damage(&path, offset, |byte| byte ^ 0x40);
            let error = read::<String>(&disk, &path, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {offset}: {error}");
        }
        disk.create(&path).unwrap().write_all_at(&[1, 2, 3], 0).unwrap();
        assert!(read::<String>(&disk, &path, 1).unwrap_err().to_string().contains("short"));
    }

    #[test]
    fn a_power_cut_leaves_the_old_record_or_the_new_one() {
        let (disk, path) = disk();
        write(&disk, &path, 1, &"old").unwrap();
        disk.record();
        // Longer than a sector, so that it can be torn.
        let new = "new".repeat(1000);
        let mut platter = disk.platter();
        write(&disk, &path, 1, &new).unwrap();
        let history = disk.history();
        for (done, op) in history.iter().enumerate() {
            platter.apply(op);
            for cut in (0..50).map(Cut::Random).chain([Cut::Nothing, Cut::Pending(0, 0), Cut::Pending(1, 3)]) {
                let left = SimulatedDisk::from(platter.cut(cut));
                let found = read::<String>(&left, &path, 1).unwrap().unwrap();
                let is_acknowledged = done + 1 == history.len();
                assert!(found == new || (found == "old" && !is_acknowledged), "after {op:?} and {cut:?}");
            }
        }
    }
}
