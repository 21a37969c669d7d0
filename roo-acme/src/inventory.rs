//! What an issuer is told of the world. A copy costs nothing: it shares what is the same in both.

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::certificate::Facts;

/// Names, lower-case.
pub type Names = RedBlackTreeSetSync<String>;

/// Certificates by name.
pub type Inventory = RedBlackTreeMapSync<String, Facts>;
