//! Where the state machine keeps its bytes: an ordered map with atomic batches, and nothing else.
//!
//! The engine is a view that can be rebuilt from snapshot and log, so it need not be durable; but after a crash it
//! must show the batches up to some point in order, each whole or not at all.

mod memory;
mod sled;

use std::io;

#[cfg(test)]
pub(crate) use memory::Memory;

pub(crate) use self::sled::Sled;

/// Writes (`Some`) and removals (`None`) that happen together.
pub(crate) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// An ordered map of bytes.
pub(crate) trait Engine: Send + Sync + 'static {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Shows keys from `from` on, ascending, until `visit` answers false.
    fn visit(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()>;

    /// Carries out all changes, or none.
    fn write(&self, changes: Changes) -> io::Result<()>;

    /// Hands what was written to the operating system.
    fn flush(&self) -> io::Result<()>;
}

/// In place of an engine after it was closed: every use fails.
pub(crate) struct Closed;

impl Closed {
    fn error() -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, "the store was shut down")
    }
}

impl Engine for Closed {
    fn get(&self, _key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Err(Self::error())
    }

    fn visit(&self, _from: &[u8], _visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        Err(Self::error())
    }

    fn write(&self, _changes: Changes) -> io::Result<()> {
        Err(Self::error())
    }

    fn flush(&self) -> io::Result<()> {
        Err(Self::error())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn behaves_as_an_ordered_map(engine: &dyn Engine) {
        engine.write(vec![(b"b".to_vec(), Some(b"2".to_vec())), (b"a".to_vec(), Some(b"1".to_vec()))]).unwrap();
        engine.write(vec![(b"c".to_vec(), Some(vec![])), (b"a".to_vec(), None)]).unwrap();
        assert_eq!(engine.get(b"a").unwrap(), None);
        assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));

        let mut seen = Vec::new();
        engine
            .visit(b"b", &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                true
            })
            .unwrap();
        assert_eq!(seen, [(b"b".to_vec(), b"2".to_vec()), (b"c".to_vec(), vec![])]);

        let mut count = 0;
        engine
            .visit(b"", &mut |_, _| {
                count += 1;
                false
            })
            .unwrap();
        assert_eq!(count, 1);
        engine.flush().unwrap();
    }

    #[test]
    fn memory_behaves() {
        behaves_as_an_ordered_map(&Memory::default());
    }

    #[test]
    fn sled_behaves_and_keeps_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Sled::open(dir.path()).unwrap();
        behaves_as_an_ordered_map(&engine);
        drop(engine);
        let engine = Sled::open(dir.path()).unwrap();
        assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
    }
}
