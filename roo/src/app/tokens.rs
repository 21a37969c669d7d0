//! Tokens of the API: made by people, kept in the store, and followed into memory on every node.
//!
//! A token is 256 random bits. The store holds its SHA-256 digest, sealed; looking a digest up takes no time from which
//! the token could be guessed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use roo_kv::{Event, Expect, Key, PutOptions, SealError, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Vault;
use crate::api::{Rights, Scope};
use crate::keys;

/// The form of the stored records.
const VERSION: u8 = 1;
/// What every token begins with, so that those who look for lost secrets know it.
const PREFIX: &str = "roo_";
const NAME_CHARS_MAX: usize = 64;
/// Prefixes in one token, reading and writing each.
const PREFIXES_MAX: usize = 64;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// What a token may do.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    /// Keys that begin with one of these may be read.
    #[serde(default)]
    pub(crate) read: Vec<String>,
    /// Keys that begin with one of these may be written and deleted.
    #[serde(default)]
    pub(crate) write: Vec<String>,
    /// Everything, also what concerns the node and the cluster.
    #[serde(default)]
    pub(crate) admin: bool,
    /// Certificates with their private keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) export: bool,
}

/// Why a token can't be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(
        "`{name}` is no name for a token: it has 1 to {NAME_CHARS_MAX} letters, digits, dots, dashes and underscores"
    )]
    BadName { name: String },
    #[error("a token without any right is of no use")]
    NoRight,
    #[error("a token has at most {PREFIXES_MAX} prefixes to read and as many to write")]
    TooManyPrefixes,
    #[error("a token can't live that long")]
    BadTtl,
    #[error("there is a token called `{name}` already")]
    Exists { name: String },
    #[error("there is no token called `{name}`")]
    Unknown { name: String },
    #[error("the token can't be sealed: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] roo_kv::Error),
}

/// A record in the store. New fields need a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    version: u8,
    digest: String,
    grant: Grant,
    /// Seconds since 1970, as is the next.
    created: i64,
    expires: Option<i64>,
}

#[derive(Debug)]
struct Known {
    record: Record,
    rights: Rights,
}

/// All tokens, by digest. Replaced whole when one changes.
type Tokens = Arc<HashMap<Digest, Known>>;

/// The tokens as this node knows them.
#[derive(Clone)]
pub(crate) struct TokenBook {
    tokens: watch::Receiver<Tokens>,
}

impl TokenBook {
    /// Without any token.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self { tokens: watch::channel(Tokens::default()).1 }
    }

    /// Keeps a book as the store has the tokens, until the store ends.
    pub(super) fn follow(store: &Store, vault: Arc<Vault>) -> Self {
        let (sender, tokens) = watch::channel(Tokens::default());
        let mut changes = store.watch(keys::TOKEN_PREFIX);
        tokio::spawn(async move {
            let mut records: HashMap<Key, Record> = HashMap::new();
            while let Ok(batch) = changes.next().await {
                if batch.reset {
                    records.clear();
                }
                for event in batch.events {
                    // What was known under the key is void even if what is there now can't be read.
                    records.remove(event.key());
                    if let Event::Put { key, entry, .. } = event {
                        match open(&vault, &key, &entry.value) {
                            Ok(record) => drop(records.insert(key, record)),
                            Err(error) => {
                                tracing::error!(%key, error, "a stored token can't be read; it opens nothing")
                            }
                        }
                    }
                }
                sender.send_replace(Arc::new(records.iter().filter_map(|(key, record)| known(key, record)).collect()));
            }
        });
        Self { tokens }
    }

    /// What the sender of `token` may do; `None` if it is none, or has expired.
    pub(crate) fn rights(&self, token: &str) -> Option<Rights> {
        self.rights_at(token, Timestamp::now().as_second())
    }

    fn rights_at(&self, token: &str, now: i64) -> Option<Rights> {
        let tokens = self.tokens.borrow();
        let known = tokens.get(&digest_of(token))?;
        known.record.expires.is_none_or(|expires| now < expires).then(|| known.rights.clone())
    }

    /// One object per token, without anything that opens.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let now = Timestamp::now().as_second();
        let tokens = self.tokens.borrow().clone();
        let mut rows: Vec<(&str, Value)> = tokens
            .values()
            .map(|Known { record, rights }| {
                let expired = record.expires.is_some_and(|expires| now >= expires);
                let row = json!({
                    "name": rights.name(),
                    "read": record.grant.read,
                    "write": record.grant.write,
                    "admin": record.grant.admin,
                    "export": record.grant.export,
                    "created": date(record.created),
                    "expires": record.expires.map(date),
                    "state": if expired { "expired" } else { "valid" },
                });
                (rights.name(), row)
            })
            .collect();
        rows.sort_by_key(|(name, _)| *name);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// Makes a token and returns its text, which is not kept anywhere.
pub(crate) async fn add(
    store: &Store,
    vault: &Vault,
    name: &str,
    grant: Grant,
    ttl: Option<Duration>,
) -> Result<String, TokenError> {
    check(name, &grant)?;
    let created = Timestamp::now();
    let expires = ttl.map(|ttl| created.checked_add(ttl)).transpose().map_err(|_| TokenError::BadTtl)?;
    let (created, expires) = (created.as_second(), expires.map(Timestamp::as_second));
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| SealError::Random)?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let digest = URL_SAFE_NO_PAD.encode(digest_of(&token));
    let record = json!(Record { version: VERSION, digest, grant, created, expires }).to_string();
    let key = keys::token(name);
    let sealed = vault.seal(&key, record.as_bytes())?;
    let options = PutOptions { expect: Some(Expect::Absent), ..PutOptions::default() };
    match store.put(key, sealed, options).await {
        Ok(_) => Ok(token),
        Err(roo_kv::Error::Conflict { .. }) => Err(TokenError::Exists { name: name.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// Removes a token. Each node refuses it as soon as it has heard of it.
pub(crate) async fn remove(store: &Store, name: &str) -> Result<(), TokenError> {
    let unknown = || TokenError::Unknown { name: name.to_owned() };
    if !is_name(name) {
        return Err(unknown());
    }
    store.delete(&keys::token(name), None).await?.map(drop).ok_or_else(unknown)
}

fn check(name: &str, grant: &Grant) -> Result<(), TokenError> {
    if !is_name(name) {
        return Err(TokenError::BadName { name: name.to_owned() });
    }
    if grant.read.is_empty() && grant.write.is_empty() && !grant.admin && !grant.export {
        return Err(TokenError::NoRight);
    }
    if grant.read.len().max(grant.write.len()) > PREFIXES_MAX {
        return Err(TokenError::TooManyPrefixes);
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn open(vault: &Vault, key: &Key, value: &[u8]) -> Result<Record, String> {
    let plain = vault.open(key, value).map_err(|error| error.to_string())?;
    let record: Record = serde_json::from_slice(&plain).map_err(|error| error.to_string())?;
    match record.version {
        VERSION => Ok(record),
        other => Err(format!("it has the format {other}, this version reads {VERSION}")),
    }
}

fn known(key: &Key, record: &Record) -> Option<(Digest, Known)> {
    let name = key.as_str().strip_prefix(keys::TOKEN_PREFIX)?;
    let digest = URL_SAFE_NO_PAD.decode(&record.digest).ok()?.try_into().ok()?;
    let Grant { read, write, admin, export } = &record.grant;
    let rights = match admin {
        true => Rights::all(name),
        false => Rights::within(name, Scope::of(read), Scope::of(write)),
    };
    let rights = rights.with_export(*export);
    Some((digest, Known { record: record.clone(), rights }))
}

fn date(second: i64) -> String {
    Timestamp::from_second(second).unwrap_or_default().to_string()
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 0;

    fn book(token: &str, grant: Grant, expires: Option<i64>) -> TokenBook {
        let digest = URL_SAFE_NO_PAD.encode(digest_of(token));
        let record = Record { version: VERSION, digest, grant, created: AT, expires };
        let tokens = known(&keys::token("ci"), &record).into_iter().collect();
        TokenBook { tokens: watch::channel(Arc::new(tokens)).1 }
    }

    #[test]
    fn a_token_gives_the_rights_it_was_made_with() {
        let grant = Grant { read: vec!["a/".to_owned()], write: vec![String::new()], ..Grant::default() };
        let rights = book("roo_x", grant, None).rights_at("roo_x", AT).expect("known");
        assert!(rights.may_read("a/1") && !rights.may_read("b") && rights.may_write("b"));
        let admin = book("roo_x", Grant { admin: true, ..Grant::default() }, None);
        assert!(admin.rights_at("roo_x", AT).is_some_and(|rights| rights.may_read("b")));
        assert!(admin.rights_at("roo_y", AT).is_none());
    }

    #[test]
    fn a_token_expires_at_its_time() {
        let book = book("roo_x", Grant { admin: true, ..Grant::default() }, Some(100));
        assert!(book.rights_at("roo_x", 99).is_some());
        assert!(book.rights_at("roo_x", 100).is_none());
    }

    #[test]
    fn names_and_rights_are_checked() {
        let any = Grant { admin: true, ..Grant::default() };
        for name in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(matches!(check(name, &any), Err(TokenError::BadName { .. })), "{name}");
        }
        assert!(check("ci-1.prod_x", &any).is_ok());
        assert!(matches!(check("ci", &Grant::default()), Err(TokenError::NoRight)));
        let many = Grant { read: vec!["x".to_owned(); 65], ..Grant::default() };
        assert!(matches!(check("ci", &many), Err(TokenError::TooManyPrefixes)));
    }
}
