//! The stored and transmitted forms of openraft's types. They are our own, so that an upgrade of the library
//! cannot change what is on disk.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use serde::{Deserialize, Serialize};

use super::{LogEntry, LogId, Membership, Peer, StoredMembership, Vote};
use crate::command::Requests;

/// A place in the log, and the leader who put the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogIdForm {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) index: u64,
}

impl From<&LogId> for LogIdForm {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdForm> for LogId {
    fn from(form: LogIdForm) -> Self {
        Self { leader_id: LeaderId { term: form.term, node_id: form.node }, index: form.index }
    }
}

/// A vote, or the word of a leader that was voted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct VoteForm {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

impl From<&Vote> for VoteForm {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteForm> for Vote {
    fn from(form: VoteForm) -> Self {
        Self { leader_id: LeaderId { term: form.term, node_id: form.node }, committed: form.committed }
    }
}

/// Voters (several sets while they change) and all members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipForm {
    voters: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Peer>,
}

impl From<&Membership> for MembershipForm {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }
}

impl TryFrom<MembershipForm> for Membership {
    type Error = FormError;

    fn try_from(form: MembershipForm) -> Result<Self, FormError> {
        // Nothing was ever agreed on: openraft's own empty membership, which its constructor refuses.
        if form.voters.is_empty() && form.members.is_empty() {
            return Ok(Self::default());
        }
        Self::new(form.voters, form.members).map_err(|e| FormError(format!("the membership is not valid: {e}")))
    }
}

/// A membership and where in the log it was agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembershipForm {
    log_id: Option<LogIdForm>,
    membership: MembershipForm,
}

impl From<&StoredMembership> for StoredMembershipForm {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().as_ref().map(LogIdForm::from),
            membership: MembershipForm::from(stored.membership()),
        }
    }
}

impl TryFrom<StoredMembershipForm> for StoredMembership {
    type Error = FormError;

    fn try_from(form: StoredMembershipForm) -> Result<Self, FormError> {
        Ok(Self::new(form.log_id.map(LogId::from), form.membership.try_into()?))
    }
}

/// What an entry carries. New kinds go to the end: the position is the stored form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PayloadForm {
    Blank,
    Requests(Requests),
    Membership(MembershipForm),
}

impl PayloadForm {
    /// Roughly the bytes that it takes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Blank => 32,
            Self::Requests(requests) => requests.weight(),
            Self::Membership(membership) => 64 * (1 + membership.members.len()),
        }
    }
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntryForm {
    pub(crate) log_id: LogIdForm,
    pub(crate) payload: PayloadForm,
}

impl From<LogEntry> for EntryForm {
    fn from(entry: LogEntry) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => PayloadForm::Blank,
            EntryPayload::Normal(requests) => PayloadForm::Requests(requests),
            EntryPayload::Membership(membership) => PayloadForm::Membership(MembershipForm::from(&membership)),
        };
        Self { log_id: LogIdForm::from(&entry.log_id), payload }
    }
}

impl EntryForm {
    /// The entry as openraft has it.
    pub(crate) fn into_entry(self) -> Result<LogEntry, FormError> {
        let payload = match self.payload {
            PayloadForm::Blank => EntryPayload::Blank,
            PayloadForm::Requests(requests) => EntryPayload::Normal(requests),
            PayloadForm::Membership(membership) => EntryPayload::Membership(membership.try_into()?),
        };
        Ok(LogEntry { log_id: self.log_id.into(), payload })
    }
}

/// Bytes that decode, but to nonsense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FormError(pub(crate) String);
