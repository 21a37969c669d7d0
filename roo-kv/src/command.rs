//! What the log carries: requests of clients, and what the state machine answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::txn::{Op, OpResult, Txn, TxnOutcome};

/// Most requests in one log entry.
pub(crate) const ENTRY_REQUESTS_MAX: usize = 256;

/// A log entry is closed once it carries this many bytes.
pub(crate) const ENTRY_BYTES_TARGET: usize = 256 << 10;

/// A repeated request gets its reply again only if the reply is not larger than this.
pub(crate) const KEPT_REPLY_BYTES_MAX: usize = 16 << 10;

/// Everything that one log entry asks for, in order. Cheap to clone: log, replication and state machine share it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Requests(pub(crate) Arc<[Request]>);

impl Requests {
    /// Roughly the bytes that they take.
    pub(crate) fn weight(&self) -> usize {
        self.0.iter().map(|request| request.command.weight()).sum()
    }
}

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
    /// As [`LeaseTimeOut`](Self::LeaseTimeOut) in whatever term; only in logs from before that was told.
    LeaseExpire {
        id: LeaseId,
    },
    /// As revoke, but because time ran out by the clock of the leader of this term. It does nothing if it comes into
    /// the log in another term: the leader of that one counts anew, and may have kept the lease alive already.
    LeaseTimeOut {
        id: LeaseId,
        term: u64,
    },
    /// A backup is to be put in place of an empty state: parts with this number follow.
    RestoreBegin {
        id: u64,
        emptiness: Emptiness,
    },
    /// Records of the backup, to be kept aside.
    RestorePart {
        id: u64,
        number: u64,
        #[serde(with = "crate::value_bytes")]
        records: Bytes,
    },
    /// All parts are there: put them in place.
    RestoreEnd {
        id: u64,
        parts: u64,
        /// Of the backup.
        revision: Revision,
        /// Of the backup.
        last_lease: u64,
        emptiness: Emptiness,
    },
    /// Forget the parts.
    RestoreAbort {
        id: u64,
    },
    /// Drop what happened before this revision from the history. Only the leader asks for it.
    TrimHistory {
        below: Revision,
    },
}

impl Command {
    /// Whether nothing remains of it that needs room.
    pub(crate) fn only_removes(&self) -> bool {
        match self {
            Self::Txn(txn) => !txn.success.iter().chain(&txn.failure).any(|op| matches!(op, Op::Put { .. })),
            Self::LeaseGrant { .. } => false,
            Self::LeaseRevoke { .. }
            | Self::LeaseExpire { .. }
            | Self::LeaseTimeOut { .. }
            | Self::TrimHistory { .. } => true,
            // Forgetting the parts makes room.
            Self::RestoreAbort { .. } => true,
            Self::RestoreBegin { .. } | Self::RestorePart { .. } | Self::RestoreEnd { .. } => false,
        }
    }

    /// Roughly the bytes that it adds to an entry.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Txn(txn) => 32 + txn.weight(),
            Self::LeaseGrant { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseExpire { .. }
            | Self::LeaseTimeOut { .. }
            | Self::TrimHistory { .. }
            | Self::RestoreBegin { .. }
            | Self::RestoreEnd { .. }
            | Self::RestoreAbort { .. } => 32,
            Self::RestorePart { records, .. } => 32 + records.len(),
        }
    }
}

/// What a state may hold that counts as empty: keys that begin with one of `own` and with none of `counted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emptiness {
    pub(crate) own: Vec<String>,
    pub(crate) counted: Vec<String>,
}

impl Emptiness {
    /// Whether a key tells that the state is in use.
    pub(crate) fn is_used_by(&self, key: &str) -> bool {
        let begins = |prefixes: &[String]| prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        !begins(&self.own) || begins(&self.counted)
    }
}

/// What became of one step of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestoreReply {
    Taken,
    /// Everything is in place.
    Done {
        revision: Revision,
    },
    /// The state is not empty.
    InUse {
        key: Key,
    },
    /// Another restore began meanwhile, or parts are missing.
    Superseded,
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
    /// As [`LeaseEndedAt`](Self::LeaseEndedAt); only among replies kept from before that was told.
    LeaseEnded,
    LeaseNotFound {
        id: LeaseId,
    },
    /// Carried out before; the reply was not kept.
    Forgotten,
    /// Nothing happened: the steps would read more bytes than one answer may have.
    ReadsTooMuch {
        bytes: u64,
    },
    /// Nothing happened: there are more keys under the prefixes than may be deleted at once.
    DeletesTooMany,
    /// The lease and its keys are gone; the store's revision after that.
    LeaseEndedAt {
        revision: Revision,
    },
    /// The lease lives on: whoever found that its time was over led in another term.
    LeaseKept,
    Restore(RestoreReply),
    /// Dropped, perhaps not all at once: where the history begins now.
    HistoryTrimmed {
        oldest: Revision,
    },
}

impl Reply {
    /// Roughly the bytes that what was asked for takes in it.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Txn(outcome) => outcome.results.iter().map(OpResult::weight).sum(),
            Self::LeaseGranted { .. }
            | Self::LeaseEnded
            | Self::LeaseNotFound { .. }
            | Self::Forgotten
            | Self::ReadsTooMuch { .. }
            | Self::DeletesTooMany
            | Self::LeaseEndedAt { .. }
            | Self::LeaseKept
            | Self::HistoryTrimmed { .. } => 0,
            Self::Restore(RestoreReply::InUse { key }) => key.as_str().len(),
            Self::Restore(_) => 0,
        }
    }

    /// The form in which it is kept for repeats.
    pub(crate) fn to_keep(&self) -> Self {
        if self.weight() > KEPT_REPLY_BYTES_MAX { Self::Forgotten } else { self.clone() }
    }
}
