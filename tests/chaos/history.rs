//! What clients asked, what they were told, and when.

use std::fmt;

/// What a write put there. No two writes of a history have the same, so a read tells which write it saw.
pub type Value = u64;

/// The store's count of writes.
pub type Revision = u64;

/// What a conditional write expects of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It exists and was last written at this revision.
    Revision(Revision),
    /// It exists and has this value.
    Value(Value),
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Get,
    Put(Value),
    Delete,
    /// Compare and swap.
    Swap(Expect, Value),
}

impl Action {
    /// The value that it writes.
    pub fn value(&self) -> Option<Value> {
        match self {
            Self::Put(value) | Self::Swap(_, value) => Some(*value),
            Self::Get | Self::Delete => None,
        }
    }
}

/// What a refused compare-and-swap was told about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Current {
    Untold,
    Absent,
    Revision(Revision),
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A read found this, last written at this revision.
    Found(Value, Revision),
    /// A read or delete found nothing.
    Missing,
    /// Done, at this revision.
    Written(Revision),
    /// A compare-and-swap that did nothing since its expectation did not hold.
    Conflict(Current),
    /// An answer that promises that nothing was changed.
    Refused,
    /// No answer, or one that says that nobody knows: it may take effect at any later time, or never.
    Unknown,
}

/// One call of one client for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub key: usize,
    pub action: Action,
    pub outcome: Outcome,
    /// Nanoseconds since the begin of the history.
    pub called: u64,
    pub returned: u64,
    /// The store's revision as the answer told it, where it did.
    pub store: Option<Revision>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |nanos: u64| format!("{}.{:03}", nanos / 1_000_000, nanos / 1000 % 1000);
        let Self { client, key, action, outcome, called, returned, .. } = self;
        write!(f, "{:>12} to {:>12} ms  client {client:<2} key {key:<3} ", ms(*called), ms(*returned))?;
        write!(f, "{:<32} {outcome:?}", format!("{action:?}"))
    }
}
