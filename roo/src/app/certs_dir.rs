//! Certificates in files: pairs in directories are looked at again and again, and taken into the store.
//!
//! Of a certificate that is there already the newer one stays, so that nodes with different files do not take turns.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use roo_acme::{Facts, Managed};
use roo_kv::{Compare, Expect, ReadLevel, Store, Test};
use tokio_util::sync::CancellationToken;

use super::Vault;
use super::import::{self, Checked, Import};
use crate::keys;

/// Between looks at the directories.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where orchestrators put secrets, and what those begin with that hold certificates.
const SECRETS: &str = "/run/secrets";
const SECRETS_BEGIN: &str = "roo_cert_";
/// How files with certificates end, beside `.key`.
const CHAIN_ENDS: [&str; 3] = ["crt", "pem", "cer"];
/// How certbot calls them.
const CERTBOT_PAIR: (&str, &str) = ("fullchain.pem", "privkey.pem");

/// Where pairs are looked for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
    /// What the files begin with.
    begin: &'static str,
}

impl Place {
    /// The directories that were configured, and the orchestrator's secrets.
    pub(super) fn all(dirs: Vec<PathBuf>) -> Vec<Self> {
        let secrets = Self { dir: PathBuf::from(SECRETS), begin: SECRETS_BEGIN };
        dirs.into_iter().map(|dir| Self { dir, begin: "" }).chain([secrets]).collect()
    }
}

/// Takes what is in `places` into the store, now and whenever it changes, until `shutdown`.
pub(super) async fn follow(places: Vec<Place>, store: Store, vault: Arc<Vault>, shutdown: CancellationToken) {
    let mut seen = HashMap::new();
    while !shutdown.is_cancelled() {
        if store.status().is_ready() {
            look(&places, &mut seen, &store, &vault).await;
        }
        let _ = tokio::time::timeout(LOOK_EVERY, shutdown.cancelled()).await;
    }
}

/// What tells one state of a pair of files from another.
type State = [Option<Seen>; 2];

/// Length and times of change: of what is in a file, and of who may read it.
type Seen = (u64, SystemTime, [i64; 2]);

async fn look(places: &[Place], seen: &mut HashMap<Pair, State>, store: &Store, vault: &Vault) {
    let places = places.to_vec();
    let found = tokio::task::spawn_blocking(move || places.iter().flat_map(pairs).collect::<Vec<_>>()).await;
    for (pair, state) in found.unwrap_or_default() {
        if seen.get(&pair) == Some(&state) {
            continue;
        }
        match take(&pair, store, vault).await {
            Ok(names) if names.is_empty() => {}
            Ok(names) => tracing::info!(file = %pair.chain.display(), ?names, "took a certificate from a file"),
            // Tried again at the next look, unlike a pair that is no good.
            Err(NotTaken::Later(error)) => {
                tracing::debug!(file = %pair.chain.display(), error, "a certificate waits for the store");
                continue;
            }
            Err(NotTaken::Unfit(error)) => {
                tracing::warn!(file = %pair.chain.display(), error, "this certificate can't be used; mend its files");
            }
        }
        seen.insert(pair, state);
    }
}

/// A file with a chain and one with its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pair {
    chain: PathBuf,
    key: PathBuf,
}

enum NotTaken {
    Later(String),
    Unfit(String),
}

impl NotTaken {
    fn later(error: impl std::fmt::Display) -> Self {
        Self::Later(error.to_string())
    }
}

/// Takes a pair into the store under each of its names for which it is better than what is there.
async fn take(pair: &Pair, store: &Store, vault: &Vault) -> Result<Vec<String>, NotTaken> {
    let read = async |path: &Path| {
        let text = tokio::fs::read_to_string(path).await;
        text.map_err(|error| NotTaken::Unfit(format!("can't read {}: {error}", path.display())))
    };
    let (chain_pem, key_pem) = (read(&pair.chain).await?, read(&pair.key).await?);
    let import = Import { chain_pem, key_pem, force: false, managed: Managed::Import, authority: None };
    let Checked { certificate, names } = import::check(import).map_err(|error| NotTaken::Unfit(error.to_string()))?;
    let facts = certificate.facts();
    let (mut better, mut compare) = (Vec::new(), Vec::new());
    for name in names {
        let key = keys::certificate(&name);
        let entry = store.get(&key, ReadLevel::Linearizable).await.map_err(NotTaken::later)?;
        let there = entry.as_ref().and_then(|entry| vault.open_certificate(&name, &entry.value).ok());
        if is_better(&name, &facts, there.map(|there| there.facts()).as_ref()) {
            let expected = entry.map_or(Expect::Absent, |entry| Expect::Revision(entry.mod_revision));
            compare.push(Compare { key, test: Test::Expect(expected) });
            better.push(name);
        }
    }
    let checked = Checked { certificate, names: better };
    if checked.names.is_empty() {
        return Ok(checked.names);
    }
    match import::store_where(store, vault, &checked, compare).await.map_err(NotTaken::later)? {
        true => Ok(checked.names),
        false => Err(NotTaken::Later("another node was first".to_owned())),
    }
}

/// Whether `ours` is to take the place of what is `there`.
fn is_better(name: &str, ours: &Facts, there: Option<&Facts>) -> bool {
    match there {
        None => true,
        Some(there) if there.managed == Managed::Import => there.not_before < ours.not_before,
        // What was ordered in place of one that was about to end stays.
        Some(_) => roo_acme::renew_at(name, ours, None) > Timestamp::now(),
    }
}

/// The pairs at a place, in its directory and those in it.
fn pairs(place: &Place) -> Vec<(Pair, State)> {
    let mut found = pairs_in(&place.dir, place.begin);
    for dir in entries(&place.dir).into_iter().filter(|path| path.is_dir()) {
        found.extend(pairs_in(&dir, place.begin));
    }
    found.sort_by(|(a, _), (b, _)| a.chain.cmp(&b.chain));
    found
}

fn pairs_in(dir: &Path, begin: &str) -> Vec<(Pair, State)> {
    let key_of = |chain: &Path| {
        let name = chain.file_name()?.to_str()?;
        if !name.starts_with(begin) {
            return None;
        }
        if name == CERTBOT_PAIR.0 {
            return Some(dir.join(CERTBOT_PAIR.1));
        }
        let ends = chain.extension()?.to_str()?;
        CHAIN_ENDS.contains(&ends).then(|| chain.with_extension("key"))
    };
    let pair = |chain: PathBuf| {
        let key = key_of(&chain)?;
        let state = [&chain, &key].map(|path| state(&std::fs::metadata(path).ok()?));
        state[1].is_some().then_some((Pair { chain, key }, state))
    };
    entries(dir).into_iter().filter_map(pair).collect()
}

fn state(file: &Metadata) -> Option<Seen> {
    file.is_file().then_some((file.len(), file.modified().ok()?, [file.ctime(), file.ctime_nsec()]))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pairs_are_found_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("shop")).unwrap();
        for name in ["a.crt", "a.key", "b.pem", "c.key", "d.txt", "d.key", "shop/fullchain.pem", "shop/privkey.pem"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let found = |begin| {
            let place = Place { dir: dir.path().to_owned(), begin };
            let name = |path: &Path| path.strip_prefix(dir.path()).unwrap().display().to_string();
            pairs(&place).iter().map(|(pair, _)| (name(&pair.chain), name(&pair.key))).collect::<Vec<_>>()
        };
        let expected = [("a.crt", "a.key"), ("shop/fullchain.pem", "shop/privkey.pem")];
        let expected = expected.map(|(chain, key)| (chain.to_owned(), key.to_owned()));
        assert_eq!(found(""), expected);
        assert_eq!(found("a"), expected[..1]);
        assert!(found("roo_cert_").is_empty());
    }
}
