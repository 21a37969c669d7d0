//! An engine for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Batch, Engine};

/// Keeps everything in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Writes until the power is cut.
    writes_left: Option<usize>,
}

impl Memory {
    /// Lets so many more writes pass; then all fail.
    pub(crate) fn fail_after(&self, writes: Option<usize>) {
        self.lock().writes_left = writes;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> io::Result<std::sync::MutexGuard<'_, Shared>> {
        let mut shared = self.lock();
        match &mut shared.writes_left {
            Some(0) => return Err(io::Error::other("the power is cut")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(shared)
    }
}

impl Engine for Memory {
    fn visit(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        for (key, value) in &self.lock().records {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch<'_>) -> io::Result<()> {
        let mut shared = self.writable()?;
        for (key, value) in batch {
            match value {
                Some(value) => shared.records.insert(key.to_vec(), value.to_vec()),
                None => shared.records.remove(*key),
            };
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.writable()?.records.clear();
        Ok(())
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().records.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }
}
