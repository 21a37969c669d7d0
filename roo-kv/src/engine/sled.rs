//! The engine on sled 0.34: the only module that names it.
//!
//! Its `flush` does not reach a disk's own cache, which is why it holds a copy that log and snapshots rebuild.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Batch, Engine};

/// Nothing is read back while the store runs, so little need be kept; the library's default is 1 GiB.
const CACHE_BYTES: u64 = 8 << 20;

/// How often it hands its buffers to the operating system by itself; that thread also collects garbage.
const FLUSH_EVERY_MS: u64 = 500;

/// How long an open waits for the lock: a database that was dropped gives it up when its last thread has ended.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// One tree of one database.
pub(crate) struct Sled {
    dir: PathBuf,
    /// `None` only after it could not be begun anew.
    db: Option<sled::Db>,
}

impl Sled {
    /// Opens or creates the database in a directory. Damage is an error, also where the library panics.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), db: Some(open(dir)?) })
    }

    fn db(&self) -> io::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| io::Error::other("the database could not be opened again"))
    }
}

fn open(dir: &Path) -> io::Result<sled::Db> {
    let started = Instant::now();
    loop {
        match open_now(dir) {
            Err(error) if is_locked(&error) && started.elapsed() < LOCK_WAIT => thread::sleep(LOCK_RETRY),
            done => return done.map_err(io::Error::from),
        }
    }
}

fn open_now(dir: &Path) -> sled::Result<sled::Db> {
    let open = || sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS)).open();
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(sled::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "the database is damaged"))))
}

/// The library wraps the lock's error in one of its own text, so that the text is all there is to go by.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

impl Engine for Sled {
    fn visit(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        for item in self.db()?.iter() {
            let (key, value) = item?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch<'_>) -> io::Result<()> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(*key, *value),
                None => changes.remove(*key),
            }
        }
        Ok(self.db()?.apply_batch(changes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.db()?.flush()?;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        drop(self.db.take());
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.db = Some(open(&self.dir)?);
        Ok(())
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        Ok(self.db()?.size_on_disk()?)
    }
}
