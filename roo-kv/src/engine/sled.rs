//! The engine on sled 0.34: the only module that names it.
//!
//! Its `flush` does not reach a disk's own cache, which is why the state is a view that log and snapshots rebuild.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{Changes, Engine};

/// The library's default of 1 GiB is far too much for a proxy.
const CACHE_BYTES: u64 = 64 << 20;

/// How often it hands its buffers to the operating system by itself; that thread also collects garbage.
const FLUSH_EVERY_MS: u64 = 500;

/// One tree of one database.
pub(crate) struct Sled {
    db: sled::Db,
}

impl Sled {
    /// Opens or creates the database in a directory. Damage is an error, also where the library panics.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let open =
            || sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS)).open();
        let db = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the database is damaged"))??;
        Ok(Self { db })
    }
}

impl Engine for Sled {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    fn visit(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        for item in self.db.range(from..) {
            let (key, value) = item?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, changes: Changes) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    fn flush(&self) -> io::Result<()> {
        self.db.flush()?;
        Ok(())
    }
}
