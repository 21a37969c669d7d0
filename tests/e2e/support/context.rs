//! The shared context of a test: a directory that goes when the test succeeds and stays when it fails.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory for data and logs. Kept, and named, when the test panics.
pub struct Context {
    dir: Option<TempDir>,
}

impl Context {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("roo-e2e-").tempdir().expect("a temporary directory");
        Self { dir: Some(dir) }
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("present until dropped").path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("data and logs are kept in {}", dir.keep().display());
        }
    }
}

/// The binary under test.
pub fn roo_bin() -> PathBuf {
    if let Some(path) = std::env::var_os("ROO_BIN") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/roo");
    assert!(path.exists(), "there is no {}; build it with `make`, or name another by ROO_BIN", path.display());
    path
}
