//! What the log carries: requests of clients, and what the state machine answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::LeaseId;
use crate::txn::{OpResult, Txn, TxnOutcome};

/// Most requests in one log entry.
pub(crate) const ENTRY_REQUESTS_MAX: usize = 256;

/// A log entry is closed once it carries this many bytes.
pub(crate) const ENTRY_BYTES_TARGET: usize = 256 << 10;

/// A repeated request gets its reply again only if the reply is not larger than this.
pub(crate) const KEPT_REPLY_BYTES_MAX: usize = 16 << 10;

/// Everything that one log entry asks for, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Requests(pub(crate) Vec<Request>);

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.0.len())
    }
}

/// One write of one client, named so that it is carried out once however often it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// One run of one node: random, new at every start.
    pub(crate) origin: u64,
    /// Counts the writes of that run.
    pub(crate) sequence: u64,
    /// The origin has the replies to all its writes before this one and will never repeat them.
    pub(crate) settled_below: u64,
    /// What to do.
    pub(crate) command: Command,
}

/// What can be asked of the state machine. New kinds go to the end: the position is the stored form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    Txn(Txn),
    LeaseGrant {
        ttl_ms: u64,
    },
    LeaseRevoke {
        id: LeaseId,
    },
    /// As revoke, but because time ran out. Only the leader asks for it.
    LeaseExpire {
        id: LeaseId,
    },
}

impl Command {
    /// Roughly the bytes that it adds to an entry.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Txn(txn) => 32 + txn.weight(),
            Self::LeaseGrant { .. } | Self::LeaseRevoke { .. } | Self::LeaseExpire { .. } => 32,
        }
    }
}

/// The answers to the requests of one entry, in order.
pub(crate) type Replies = Vec<Reply>;

/// What became of one request. New kinds go to the end: the position is the stored form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Txn(TxnOutcome),
    LeaseGranted {
        id: LeaseId,
        ttl_ms: u64,
    },
    LeaseEnded,
    LeaseNotFound {
        id: LeaseId,
    },
    /// Carried out before; the reply was not kept.
    Forgotten,
}

impl Reply {
    /// The form in which it is kept for repeats.
    pub(crate) fn to_keep(&self) -> Self {
        match self {
            Self::Txn(outcome)
                if outcome.results.iter().map(OpResult::weight).sum::<usize>() > KEPT_REPLY_BYTES_MAX =>
            {
                Self::Forgotten
            }
            other => other.clone(),
        }
    }
}
