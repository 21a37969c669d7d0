//! Caddy's data directory: `certificates/<issuer>/<name>/<name>.crt`, with `.key` and `.json` beside it. The latter tells
//! the CA.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Looked, Skipped, entries, pair_in};

pub(super) fn find(path: &Path) -> Result<Vec<Looked>, String> {
    let inner = path.join("certificates");
    let certificates = if inner.is_dir() { inner } else { path.to_owned() };
    let mut looked = Vec::new();
    for issuer in entries(&certificates)?.into_iter().filter(|path| path.is_dir()) {
        for site in entries(&issuer)?.into_iter().filter(|path| path.is_dir()) {
            looked.push(certificate(&site));
        }
    }
    Ok(looked)
}

fn certificate(site: &Path) -> Looked {
    let files = entries(site).map_err(|why| Skipped::new(site.display().to_string(), why))?;
    let ending = |end: &str| files.iter().find(|file| file.extension().is_some_and(|found| found == end));
    let (Some(chain), Some(key)) = (ending("crt"), ending("key")) else {
        return Err(Skipped::new(site.display().to_string(), "it holds no .crt with a .key"));
    };
    pair_in(chain, key, ending("json").and_then(directory))
}

/// The CA's directory, as the facts beside a certificate tell it.
fn directory(facts: &PathBuf) -> Option<String> {
    let facts: Value = serde_json::from_str(&std::fs::read_to_string(facts).ok()?).ok()?;
    let ca = facts.get("issuer_data")?.get("ca")?.as_str()?;
    ca.starts_with("https://").then(|| ca.to_owned())
}
