//! Maps that requests look into.

use std::collections::HashMap;

/// A map with a quick hash, seeded by chance. For keys that operators choose, whatever clients then look for: who can't
/// put keys in can't make them collide.
pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
