//! What can be asked of the store: transactions, ranges, and their answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{LeaseId, Revision};
use crate::key::Key;

/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Most comparisons, and most operations in each branch, of one transaction.
pub const TXN_OPS_MAX: usize = 512;

/// Most bytes of keys and values that one transaction may carry.
pub const TXN_BYTES_MAX: usize = 4 << 20;

/// Most bytes that the steps of one transaction may read. Single keys must fit; ranges end where it is reached.
pub const TXN_RESULT_BYTES_MAX: usize = 4 << 20;

/// Most keys that the steps of one transaction may delete by prefix.
pub const TXN_DELETES_MAX: usize = 10_000;

/// Most entries that one [`Page`] holds.
pub const PAGE_ENTRIES_MAX: usize = 10_000;

/// Most bytes of values that one [`Page`] holds; the entry that passes it is the last.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

/// What an entry takes beside its value, roughly.
pub(crate) const ENTRY_WEIGHT: usize = 32;

/// A value with its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The bytes as written.
    #[serde(with = "crate::value_bytes")]
    pub value: Bytes,
    /// When the key came into being (again, if it was deleted in between).
    pub create_revision: Revision,
    /// When the key was last written.
    pub mod_revision: Revision,
    /// Writes since the key came into being; the first makes it 1.
    pub version: u64,
    /// The lease whose end deletes the entry.
    pub lease: Option<LeaseId>,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadLevel {
    /// Sees every write acknowledged before the read began. Needs a quorum.
    #[default]
    Linearizable,
    /// Sees what the leader had applied, without asking whether it still is the leader.
    Leader,
    /// What this node has now; never waits, works without a quorum.
    Stale,
}

/// What a write expects of the key before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists.
    Present,
    /// The key exists and was last written at this revision.
    Revision(Revision),
}

/// Details of a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Refuse with [`Error::Conflict`](crate::Error::Conflict) unless this holds.
    pub expect: Option<Expect>,
    /// Delete the entry when this lease ends. Without one, a put detaches the key from an earlier lease.
    pub lease: Option<LeaseId>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The key looked at.
    pub key: Key,
    /// What must hold.
    pub test: Test,
}

/// What a [`Compare`] looks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// See [`Expect`].
    Expect(Expect),
    /// The value is exactly this.
    Value(#[serde(with = "crate::value_bytes")] Bytes),
    /// The key was written this many times; 0 means that it is absent.
    Version(u64),
    /// The key came into being at this revision.
    CreateRevision(Revision),
    /// The key hangs on this lease (`None`: on no lease).
    Lease(Option<LeaseId>),
    /// A fact about the key stands in this relation to the one given.
    Fact {
        /// The relation: what the key has on its left, what is given here on its right.
        operator: Operator,
        /// What is compared.
        fact: Fact,
    },
}

/// The relations of etcd's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// What the key has is greater; of values, what sorts later by bytes.
    Greater,
    /// What the key has is less.
    Less,
}

/// What a [`Test::Fact`] compares. Of an absent key all numbers are 0 and no comparison of values holds, as in etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// The value.
    Value(#[serde(with = "crate::value_bytes")] Bytes),
    /// How often the key was written since it came into being.
    Version(u64),
    /// When it came into being.
    CreateRevision(Revision),
    /// When it was last written.
    ModRevision(Revision),
    /// The lease it hangs on; none is less than any.
    Lease(Option<LeaseId>),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Read a key, as the steps before left it.
    Get {
        /// The key.
        key: Key,
    },
    /// Write a key.
    Put {
        /// The key.
        key: Key,
        /// At most [`VALUE_BYTES_MAX`].
        #[serde(with = "crate::value_bytes")]
        value: Bytes,
        /// See [`PutOptions::lease`].
        lease: Option<LeaseId>,
    },
    /// Remove a key, if it is there.
    Delete {
        /// The key.
        key: Key,
    },
    /// Read the first keys under a prefix, as the steps before left them.
    GetPrefix {
        /// Empty for all.
        prefix: String,
        /// At most this many, and never more than [`PAGE_ENTRIES_MAX`] or [`TXN_RESULT_BYTES_MAX`].
        limit: u32,
    },
    /// Remove all keys under a prefix: at most [`TXN_DELETES_MAX`], or nothing of the transaction happens.
    DeletePrefix {
        /// Empty for all.
        prefix: String,
    },
}

/// All or nothing: if every comparison holds, the `success` steps happen, else the `failure` steps.
///
/// All writes of one transaction carry the same revision; no other write comes between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// Conditions, all of which must hold. None: always.
    pub compare: Vec<Compare>,
    /// Steps if they hold.
    pub success: Vec<Op>,
    /// Steps if one does not.
    pub failure: Vec<Op>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnOutcome {
    /// Which branch ran.
    pub succeeded: bool,
    /// The store's revision after it; that of its writes, if it wrote.
    pub revision: Revision,
    /// One result for each step of the branch, in order.
    pub results: Vec<OpResult>,
}

/// What one step of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// What was found.
    Get(Option<Entry>),
    /// Written.
    Put,
    /// Removed, or not there before.
    Delete {
        /// Whether there was anything to remove.
        existed: bool,
    },
    /// What was found under a prefix.
    GetPrefix {
        /// Keys and entries, ascending.
        entries: Vec<(Key, Entry)>,
        /// There are more.
        more: bool,
    },
    /// Removed.
    DeletePrefix {
        /// How many keys there were.
        deleted: u64,
    },
}

/// A range of keys to read: those that start with `prefix` and come after `after`, at most `limit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Keys must start with this; empty for all.
    pub prefix: String,
    /// The last key of the page before.
    pub after: Option<Key>,
    /// At most this many entries, and never more than [`PAGE_ENTRIES_MAX`].
    pub limit: usize,
}

impl Scan {
    /// The first page of everything under a prefix.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), after: None, limit: PAGE_ENTRIES_MAX }
    }
}

/// Some entries in order of their keys, all as they were at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Keys and entries, ascending.
    pub entries: Vec<(Key, Entry)>,
    /// There are more; ask again with `after` = the last key.
    pub more: bool,
    /// The store's revision that the page shows.
    pub revision: Revision,
}

impl Txn {
    /// Bytes of keys and values it carries.
    pub(crate) fn weight(&self) -> usize {
        let compared: usize = self.compare.iter().map(Compare::weight).sum();
        compared + self.success.iter().chain(&self.failure).map(Op::weight).sum::<usize>()
    }
}

impl Compare {
    fn weight(&self) -> usize {
        let value = match &self.test {
            Test::Value(value) | Test::Fact { fact: Fact::Value(value), .. } => value.len(),
            _ => 0,
        };
        self.key.as_str().len() + value
    }
}

impl Op {
    fn weight(&self) -> usize {
        match self {
            Self::Get { key } | Self::Delete { key } => key.as_str().len(),
            Self::Put { key, value, .. } => key.as_str().len() + value.len(),
            Self::GetPrefix { prefix, .. } | Self::DeletePrefix { prefix } => prefix.len(),
        }
    }
}

impl Entry {
    /// Roughly the bytes it takes, without its key.
    pub(crate) fn weight(&self) -> usize {
        ENTRY_WEIGHT + self.value.len()
    }
}

impl OpResult {
    /// Roughly the bytes of the result.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Get(Some(entry)) => entry.weight(),
            Self::GetPrefix { entries, .. } => {
                entries.iter().map(|(key, entry)| key.as_str().len() + entry.weight()).sum()
            }
            Self::Get(None) | Self::Put | Self::Delete { .. } | Self::DeletePrefix { .. } => 2,
        }
    }
}
