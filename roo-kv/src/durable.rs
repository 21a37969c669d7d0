//! Small files that survive a power cut: written aside, synced, renamed, and the directory synced.
//!
//! A file is `version (1) | CRC-32 of the body (4, little endian) | body in postcard`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

const HEADER_BYTES: usize = 5;

/// Writes a record in place of what the file held. Returns after it is on stable storage.
pub(crate) fn write<T: Serialize>(path: &Path, version: u8, record: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.push(version);
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);

    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Reads a record; `None` if there is no file.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with a sentence that names the fault.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, version: u8) -> io::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
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
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_comes_back_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        assert_eq!(read::<String>(&path, 1).unwrap(), None);
        write(&path, 1, &"hello").unwrap();
        assert_eq!(read::<String>(&path, 1).unwrap().as_deref(), Some("hello"));
        assert!(read::<String>(&path, 2).unwrap_err().to_string().contains("format 1"));

        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(read::<String>(&path, 1).unwrap_err().to_string().contains("checksum"));
        fs::write(&path, &bytes[..3]).unwrap();
        assert!(read::<String>(&path, 1).unwrap_err().to_string().contains("short"));
    }
}
