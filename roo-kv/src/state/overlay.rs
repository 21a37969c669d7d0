//! Changes that are not in the state yet, and the view of both together.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{decode, encode};
use super::tree::Tree;

/// Writes (`Some`) and removals (`None`) that happen together.
pub(crate) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The state with changes laid over it.
pub(crate) struct Overlay<'a> {
    base: &'a Tree,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    /// Without changes yet.
    pub(crate) fn new(base: &'a Tree) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Reads a record.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &[u8]) -> io::Result<Option<T>> {
        match self.changes.get(key) {
            Some(Some(bytes)) => decode(bytes).map(Some),
            Some(None) => Ok(None),
            None => self.base.get(key).map(decode).transpose(),
        }
    }

    /// Writes a record.
    pub(crate) fn write<T: Serialize>(&mut self, key: Vec<u8>, record: &T) -> io::Result<()> {
        self.changes.insert(key, Some(encode(record)?));
        Ok(())
    }

    /// Writes a record that is encoded already.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.changes.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes a record, if it is there.
    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// All present keys that start with `prefix`, ascending.
    pub(crate) fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        self.first_keys(prefix, usize::MAX)
    }

    /// The first `limit` present keys that start with `prefix`, ascending.
    pub(crate) fn first_keys(&self, prefix: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let is_there = |key: &&[u8]| !matches!(self.changes.get(*key), Some(None));
        let base = self.base.prefix(prefix).map(|(key, _)| key).filter(is_there).take(limit);
        let mut keys: BTreeSet<Vec<u8>> = base.map(<[u8]>::to_vec).collect();
        let changed = self.changes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        keys.extend(changed.filter(|(_, change)| change.is_some()).map(|(key, _)| key.clone()));
        keys.into_iter().take(limit).collect()
    }

    /// What has to be carried out.
    pub(crate) fn into_changes(self) -> Changes {
        self.changes.into_iter().collect()
    }
}
