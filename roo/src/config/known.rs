//! What verbs know of the cluster's secret and its API: from their flags, the environment, and a data directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use roo_kv::Secret;

use super::source::{Sources, Surroundings};
use super::{Reader, boolean, token};

/// The API's token as a person gave it: the token itself, or derived from the secret.
///
/// # Errors
/// A sentence that names what is wrong with what was given.
pub(crate) fn api_token(
    flags: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
) -> Result<Option<String>, String> {
    let mut reader = Reader { sources: Sources { flags, surroundings, file: None }, mistakes: Vec::new() };
    let given = reader.read("token", token);
    let secret = reader.read("secret", |text| Secret::from_text(text).map_err(|error| error.to_string()));
    match reader.mistakes.pop() {
        Some(mistake) => Err(mistake),
        None => Ok(given.or_else(|| secret.map(|secret| secret.api_token()))),
    }
}

/// The token derived from the secret that a node made for itself.
///
/// # Errors
/// A sentence when there is none.
pub(crate) fn data_dir_token(
    flags: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
) -> Result<String, String> {
    data_dir_secret(flags, surroundings).map(|secret| secret.api_token())
}

/// The secret as a person gave it, or as a node keeps it in its data directory.
///
/// # Errors
/// A sentence when there is none.
pub(crate) fn present_secret(
    flags: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
) -> Result<Secret, String> {
    let mut reader = Reader { sources: Sources { flags, surroundings, file: None }, mistakes: Vec::new() };
    // A node that was told of a newer one knows better than its surroundings.
    if flags.contains_key("data-dir") {
        return data_dir_secret(flags, surroundings);
    }
    let given = reader.read("secret", |text| Secret::from_text(text).map_err(|error| error.to_string()));
    match (reader.mistakes.pop(), given) {
        (Some(mistake), _) => Err(mistake),
        (None, Some(secret)) => Ok(secret),
        (None, None) => data_dir_secret(flags, surroundings),
    }
}

/// The secrets of which one should be the cluster's: the one that a person gave, and the one in the data directory.
/// They differ where a node goes by a newer one than it was given. May be empty.
///
/// # Errors
/// A sentence that names what is wrong with what was given.
pub(crate) fn known_secrets(
    flags: &BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
) -> Result<Vec<Secret>, String> {
    let mut reader = Reader { sources: Sources { flags, surroundings, file: None }, mistakes: Vec::new() };
    let given = reader.read("secret", |text| Secret::from_text(text).map_err(|error| error.to_string()));
    if let Some(mistake) = reader.mistakes.pop() {
        return Err(mistake);
    }
    match data_dir_secret(flags, surroundings) {
        Err(mistake) if flags.contains_key("data-dir") => Err(mistake),
        // Elsewhere than on a node's machine there is no such directory.
        kept => Ok(given.into_iter().chain(kept.ok()).collect()),
    }
}

/// Whether the surroundings tell that the API speaks TLS.
///
/// # Errors
/// A sentence that names what is wrong with what was given.
pub(crate) fn api_tls(surroundings: &dyn Surroundings) -> Result<bool, String> {
    let flags = BTreeMap::new();
    let mut reader = Reader { sources: Sources { flags: &flags, surroundings, file: None }, mistakes: Vec::new() };
    let told = reader.read("api-tls", boolean).unwrap_or(false);
    reader.mistakes.pop().map_or(Ok(told), Err)
}

fn data_dir_secret(flags: &BTreeMap<String, String>, surroundings: &dyn Surroundings) -> Result<Secret, String> {
    let given = Sources { flags, surroundings, file: None }.find("data-dir")?;
    let dir = given.map_or_else(|| PathBuf::from("roo-data"), |given| PathBuf::from(given.text));
    if let Some(secret) = roo_kv::Keyring::current_in(&dir).map_err(|error| error.to_string())? {
        return Ok(secret);
    }
    let path = secret_path(&dir);
    if !path.exists() {
        return Err(format!(
            "no secret was given, and there is none in {}; give --secret or --data-dir",
            dir.display()
        ));
    }
    Secret::load_or_create(&path).map_err(|error| error.to_string())
}

/// Where a node keeps the secret that it made for itself.
pub(crate) fn secret_path(data_dir: &Path) -> PathBuf {
    data_dir.join("secret")
}
