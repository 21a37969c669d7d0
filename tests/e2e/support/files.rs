//! Looking for bytes in whatever is below a directory.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Whether any file below `dir` holds `bytes`.
pub fn hold(dir: &Path, bytes: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        let found =
            if entry.file_type()?.is_dir() { hold(&path, bytes)? } else { holds(&std::fs::read(&path)?, bytes) };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `text` has `bytes` in it.
pub fn holds(text: &[u8], bytes: &[u8]) -> bool {
    text.windows(bytes.len()).any(|window| window == bytes)
}
