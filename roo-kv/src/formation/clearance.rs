//! What a node may do to come into a cluster, as far as whoever runs it tells.

/// How far a node may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Clearance {
    /// As it was set up: nobody else has a say. Not fewer than `expect` nodes found a cluster.
    Free { expect: usize },
    /// Nothing yet; the text says what is waited for.
    Wait(String),
    /// Be taken in, and help another to found; `lacks` is what it would need to found a cluster itself.
    Join { others: Vec<String>, lacks: String },
    /// Found one of no fewer than `expect` nodes, too.
    Found { others: Vec<String>, expect: usize },
}

impl Clearance {
    /// Where the others are, if the node is told.
    pub(crate) fn others(&self) -> Option<&[String]> {
        match self {
            Self::Join { others, .. } | Self::Found { others, .. } => Some(others),
            Self::Free { .. } | Self::Wait(_) => None,
        }
    }

    /// How many nodes there are meant to be at least.
    pub(crate) fn expect(&self) -> usize {
        match self {
            Self::Free { expect } | Self::Found { expect, .. } => *expect,
            Self::Wait(_) | Self::Join { .. } => 0,
        }
    }
}
