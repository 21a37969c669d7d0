//! Maps that requests look into.

use std::collections::HashMap;
use std::hash::Hash;

use rpds::HashTrieMapSync;

/// A map with a quick hash, seeded by chance. For keys that operators choose, whatever clients then look for: who can't
/// put keys in can't make them collide.
pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// As [`Map`], and a copy costs nothing: a change makes anew only what leads to it. For snapshots of many entries of
/// which one changes at a time.
pub(crate) type Shared<K, V> = HashTrieMapSync<K, V, foldhash::fast::RandomState>;

/// An empty one.
pub(crate) fn shared<K: Eq + Hash, V>() -> Shared<K, V> {
    HashTrieMapSync::new_with_hasher_and_ptr_kind(foldhash::fast::RandomState::default())
}
