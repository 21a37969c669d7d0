//! What an issuer is told of the world. A copy costs nothing: it shares what is the same in both.

use std::ops::Deref;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::certificate::Facts;

/// Names, lower-case.
pub type Names = RedBlackTreeSetSync<String>;

/// Certificates by name; remembers what changed last, so that who follows it need not look at all of them.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    facts: RedBlackTreeMapSync<String, Facts>,
    /// How many changes there were.
    version: u64,
    /// The names of the last changes, by version.
    recent: RedBlackTreeMapSync<u64, String>,
}

impl Inventory {
    /// Puts a certificate in, in place of the former of that name.
    pub fn insert_mut(&mut self, name: String, facts: Facts) {
        self.changed(name.clone());
        self.facts.insert_mut(name, facts);
    }

    /// Takes a certificate out; whether it was there.
    pub fn remove_mut(&mut self, name: &str) -> bool {
        self.changed(name.to_owned());
        self.facts.remove_mut(name)
    }

    /// How many changes there were.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The names that changed after `version`; `None` if that is too long ago to know.
    pub(crate) fn changed_since(&self, version: u64) -> Option<impl Iterator<Item = &String>> {
        let known = version <= self.version && self.version - version <= RECENT_MAX;
        known.then(|| self.recent.range(version + 1..).map(|(_, name)| name))
    }

    fn changed(&mut self, name: String) {
        self.version += 1;
        self.recent.insert_mut(self.version, name);
        if let Some(forgotten) = self.version.checked_sub(RECENT_MAX) {
            self.recent.remove_mut(&forgotten);
        }
    }
}

impl Deref for Inventory {
    type Target = RedBlackTreeMapSync<String, Facts>;

    fn deref(&self) -> &Self::Target {
        &self.facts
    }
}

/// Changes that are remembered. Who missed more looks at everything.
const RECENT_MAX: u64 = 1_024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_last_changes_are_known() {
        let facts = crate::Certificate::decode(include_bytes!("../fixtures/certificate-v1.record")).unwrap().facts();
        let mut inventory = Inventory::default();
        let since = |inventory: &Inventory, version| {
            inventory.changed_since(version).map(|names| names.cloned().collect::<Vec<_>>())
        };
        assert_eq!(since(&inventory, 0), Some(Vec::new()));
        inventory.insert_mut("a".to_owned(), facts.clone());
        let version = inventory.version();
        inventory.insert_mut("b".to_owned(), facts.clone());
        assert!(inventory.remove_mut("a"));
        assert_eq!(since(&inventory, version), Some(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(inventory.size(), 1);
        for _ in 0..RECENT_MAX {
            inventory.insert_mut("c".to_owned(), facts.clone());
        }
        assert_eq!(since(&inventory, version), None);
        assert_eq!(inventory.recent.size() as u64, RECENT_MAX);
        assert_eq!(since(&inventory, inventory.version() + 1), None, "another one's");
    }
}
