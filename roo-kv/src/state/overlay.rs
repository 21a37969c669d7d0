//! Changes that are not in the engine yet, and the view of both together.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{decode, encode};
use crate::engine::{Changes, Engine};

/// The engine with changes laid over it.
pub(crate) struct Overlay<'a> {
    base: &'a dyn Engine,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    /// Without changes yet.
    pub(crate) fn new(base: &'a dyn Engine) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Reads a record.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &[u8]) -> io::Result<Option<T>> {
        match self.changes.get(key) {
            Some(Some(bytes)) => decode(bytes).map(Some),
            Some(None) => Ok(None),
            None => self.base.get(key)?.map(|bytes| decode(&bytes)).transpose(),
        }
    }

    /// Writes a record.
    pub(crate) fn write<T: Serialize>(&mut self, key: Vec<u8>, record: &T) -> io::Result<()> {
        self.changes.insert(key, Some(encode(record)?));
        Ok(())
    }

    /// Removes a record, if it is there.
    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// All present keys that start with `prefix`, ascending.
    pub(crate) fn keys(&self, prefix: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = std::collections::BTreeSet::new();
        self.base.visit(prefix, &mut |key, _| {
            let inside = key.starts_with(prefix);
            if inside {
                keys.insert(key.to_vec());
            }
            inside
        })?;
        for (key, change) in self.changes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            match change {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    /// What has to be written to the engine.
    pub(crate) fn into_changes(self) -> Changes {
        self.changes.into_iter().collect()
    }
}
