//! Certbot's directory: `live/<name>/fullchain.pem` and `privkey.pem`; `renewal/<name>.conf` tells the CA as `server`.

use std::path::Path;

use super::{Looked, entries, pair_in};

pub(super) fn find(path: &Path) -> Result<Vec<Looked>, String> {
    let live = path.join("live");
    if !live.is_dir() {
        return Err(format!("there is no {}; give Certbot's directory, usually /etc/letsencrypt", live.display()));
    }
    let lineages = entries(&live)?.into_iter().filter(|path| path.is_dir());
    let pair = |lineage: std::path::PathBuf| {
        let source = lineage.file_name().and_then(|name| directory(path, &name.to_string_lossy()));
        pair_in(&lineage.join("fullchain.pem"), &lineage.join("privkey.pem"), source)
    };
    Ok(lineages.map(pair).collect())
}

/// The CA's directory, from the settings by which the certificate is renewed.
fn directory(path: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path.join("renewal").join(format!("{name}.conf"))).ok()?;
    let mut settings = text.lines().filter_map(|line| line.split_once('='));
    let (_, server) = settings.find(|(key, _)| key.trim() == "server")?;
    Some(server.trim().to_owned()).filter(|server| server.starts_with("https://"))
}
