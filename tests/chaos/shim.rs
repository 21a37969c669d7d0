//! The library that stands between a node and the system: its clock and its disk. See `shim.c`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The fields of `struct control` in `shim.c`.
#[derive(Clone, Copy)]
enum Field {
    ClockOffset,
    SyncDelay,
    SyncStalled,
    ClockReads,
    Syncs,
    Dials,
}

/// Compiles the library into `dir`.
pub fn compile(dir: &Path) -> Result<PathBuf> {
    let library = dir.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("chaos/shim.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .with_context(|| format!("can't run the C compiler {}; install gcc", compiler.display()))?;
    ensure!(output.status.success(), "shim.c: {}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

/// What the library in one node is told and tells.
pub struct Control {
    file: File,
    pub path: PathBuf,
}

impl Control {
    /// Nothing is broken.
    pub fn create(path: PathBuf) -> Result<Self> {
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        file.set_len(4096)?;
        Ok(Self { file, path })
    }

    /// Sets the node's clock this many seconds off.
    pub fn shift_clock(&self, seconds: i64) -> Result<()> {
        self.write(Field::ClockOffset, seconds * 1_000_000_000)
    }

    /// Lets every sync take this much longer.
    pub fn slow_disk(&self, delay: Duration) -> Result<()> {
        self.write(Field::SyncDelay, i64::try_from(delay.as_nanos())?)
    }

    /// Lets no sync return, until told otherwise.
    pub fn stall_disk(&self, stalled: bool) -> Result<()> {
        self.write(Field::SyncStalled, stalled.into())
    }

    /// Fails if the node did not go through the library: its faults would then be none.
    pub fn check_used(&self) -> Result<()> {
        for (field, what) in [(Field::ClockReads, "clock"), (Field::Syncs, "disk"), (Field::Dials, "dialing")] {
            ensure!(self.read(field)? > 0, "the node's {what} does not go through the shim");
        }
        Ok(())
    }

    fn write(&self, field: Field, value: i64) -> Result<()> {
        self.file.write_all_at(&value.to_ne_bytes(), field as u64 * 8).context("the control file")
    }

    fn read(&self, field: Field) -> Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, field as u64 * 8)?;
        Ok(i64::from_ne_bytes(bytes))
    }
}
