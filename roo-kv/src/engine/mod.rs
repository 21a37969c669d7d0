//! Where the copy of the state on disk is: an ordered map with atomic batches, and nothing else.
//!
//! The copy can be rebuilt from snapshot and log, so an engine need not be durable; but after a crash it must show the
//! batches up to some point in order, each whole or not at all.

#[cfg(test)]
mod memory;
mod sled;

use std::io;

#[cfg(test)]
pub(crate) use memory::Memory;

pub(crate) use self::sled::Sled;

/// Writes (`Some`) and removals (`None`) that happen together.
pub(crate) type Batch<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

/// An ordered map of bytes.
pub(crate) trait Engine: Send + 'static {
    /// Shows all keys, ascending, until `visit` answers false.
    fn visit(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()>;

    /// Carries out all changes, or none.
    fn write(&mut self, batch: &Batch<'_>) -> io::Result<()>;

    /// Hands what was written to the operating system.
    fn flush(&mut self) -> io::Result<()>;

    /// Throws everything away, whatever state it is in, and gives the room back. If it is cut short, all is gone or the
    /// last batch is.
    fn clear(&mut self) -> io::Result<()>;

    /// Bytes it takes on disk.
    fn disk_bytes(&self) -> io::Result<u64>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn content(engine: &dyn Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut content = Vec::new();
        engine
            .visit(&mut |key, value| {
                content.push((key.to_vec(), value.to_vec()));
                true
            })
            .unwrap();
        content
    }

    fn behaves_as_an_ordered_map(engine: &mut dyn Engine) {
        engine.write(&vec![(b"x", Some(b"9"))]).unwrap();
        engine.clear().unwrap();
        engine.write(&vec![(b"b", Some(b"2")), (b"a", Some(b"1"))]).unwrap();
        engine.write(&vec![(b"c", Some(b"")), (b"a", None)]).unwrap();
        assert_eq!(content(engine), [(b"b".to_vec(), b"2".to_vec()), (b"c".to_vec(), vec![])]);

        let mut count = 0;
        engine
            .visit(&mut |_, _| {
                count += 1;
                false
            })
            .unwrap();
        assert_eq!(count, 1);
        engine.flush().unwrap();
        assert!(engine.disk_bytes().unwrap() > 0);
    }

    #[test]
    fn memory_behaves() {
        behaves_as_an_ordered_map(&mut Memory::default());
    }

    #[test]
    fn sled_behaves_and_keeps_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = Sled::open(dir.path()).unwrap();
        behaves_as_an_ordered_map(&mut engine);
        drop(engine);
        let engine = Sled::open(dir.path()).unwrap();
        assert_eq!(content(&engine)[0], (b"b".to_vec(), b"2".to_vec()));
    }
}
