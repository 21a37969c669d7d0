//! What nodes say to each other: our own forms, postcard behind a version byte.

use std::io;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::{Reply, Request};
use crate::id::{ClusterId, LeaseId, NodeId, Revision};
use crate::identity::Standing;
use crate::membership::{ChangeAnswer, MemberChange};
use crate::raft::{EntryForm, LogIdForm, VoteForm};
use crate::snapshot::SnapshotId;

const VERSION: u8 = 1;

/// The largest message in one piece: an entry may carry a whole transaction, a batch of them several.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A question with the cluster of who asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) ask: Ask,
}

/// A question. New kinds go to the end: the position is the transmitted form.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Hello(Hello),
    Grant {
        cluster: ClusterId,
        attempt: u64,
        address: String,
    },
    /// Take this node in as a learner. Any member passes it on to the leader.
    Join {
        node: NodeId,
        address: String,
    },
    Vote(VoteAsk),
    PreVote(VoteAsk),
    Append(AppendForm),
    Transfer {
        from: VoteForm,
        to: u64,
        last: Option<LogIdForm>,
    },
    /// Have these written, in this order.
    Propose(Vec<Request>),
    /// Up to where must be applied for a read; `confirm`: after asking a quorum whether the leader still leads.
    ReadIndex {
        confirm: bool,
    },
    KeepAlive {
        lease: LeaseId,
    },
    /// Answer when this revision is applied, or after this time.
    Applied {
        revision: Revision,
        timeout_ms: u64,
    },
    /// How much of this snapshot the node has from an earlier attempt.
    SnapshotOffset {
        id: SnapshotId,
    },
    /// How long a lease lives yet; only the leader knows.
    LeaseLeft {
        lease: LeaseId,
    },
    /// Is there room on your disk?
    Room,
    /// Change the membership, if you lead.
    Change(MemberChange),
    /// Whether the leader counts this node among the members. A member passes it on to the leader once.
    IsMember {
        node: NodeId,
        passed_on: bool,
    },
    /// Where your log ends.
    LastLog,
}

/// What comes before the chunks of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    pub(crate) vote: VoteForm,
    pub(crate) id: SnapshotId,
    /// Where in the file the chunks begin.
    pub(crate) offset: u64,
}

/// An answer. New kinds go to the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Hello(HelloAnswer),
    Grant(GrantAnswer),
    Joined,
    Vote {
        vote: VoteForm,
        granted: bool,
        last: Option<LogIdForm>,
    },
    Append(AppendAnswer),
    Transfer(TransferAnswer),
    /// Of each request.
    Propose(Vec<Proposed>),
    Read(ReadAnswer),
    Lease(LeaseAnswer),
    Applied(bool),
    Refused(Refusal),
    /// The leader's vote as the receiver of a snapshot knows it.
    Snapshot {
        vote: VoteForm,
    },
    SnapshotOffset {
        offset: u64,
    },
    Room(bool),
    Changed(ChangeAnswer),
    IsMember(bool),
    LastLog(Option<LogIdForm>),
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the peer belongs to another cluster ({})", match cluster {
        Some(cluster) => cluster.to_string(),
        None => "none yet".to_owned(),
    })]
    OtherCluster { cluster: Option<ClusterId> },
    #[error("the peer cannot do that now: {reason}")]
    Unable { reason: String },
}

/// Who speaks, and where it can be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) node: NodeId,
    pub(crate) standing: StandingForm,
    /// Where to dial it, if it knows; otherwise: where it comes from, at `port`.
    pub(crate) advertise: Option<String>,
    pub(crate) port: u16,
    /// The clusters that its own one was before it was rescued.
    pub(crate) former: Vec<ClusterId>,
    /// Its cluster has more nodes than this one, or holds something that somebody would miss.
    pub(crate) settled: bool,
    /// The index of the last entry in its log.
    pub(crate) stored: Option<u64>,
}

/// The same of the one greeted, and how it sees the greeter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HelloAnswer {
    pub(crate) hello: Hello,
    pub(crate) you_are_at: IpAddr,
}

/// What others may know of a node's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StandingForm {
    Pristine,
    Founding { cluster: ClusterId },
    Promised { initiator: NodeId, cluster: ClusterId },
    Member { cluster: ClusterId },
    Superseded { by: ClusterId },
}

impl From<&Standing> for StandingForm {
    fn from(standing: &Standing) -> Self {
        match standing {
            Standing::Pristine => Self::Pristine,
            Standing::Founding { cluster, .. } => Self::Founding { cluster: *cluster },
            Standing::Promised { initiator, cluster, .. } => {
                Self::Promised { initiator: *initiator, cluster: *cluster }
            }
            Standing::Member { cluster, .. } => Self::Member { cluster: *cluster },
            Standing::Superseded { by, .. } => Self::Superseded { by: *by },
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GrantAnswer {
    pub(crate) granted: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteAsk {
    pub(crate) vote: VoteForm,
    pub(crate) last: Option<LogIdForm>,
    pub(crate) transfer: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppendForm {
    pub(crate) vote: VoteForm,
    pub(crate) previous: Option<LogIdForm>,
    pub(crate) entries: Vec<EntryForm>,
    pub(crate) committed: Option<LogIdForm>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    Success,
    Partial(Option<LogIdForm>),
    Conflict,
    HigherVote(VoteForm),
}

/// One answer in a stream of appends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StreamAnswer {
    Stored(Option<LogIdForm>),
    Conflict(LogIdForm),
    HigherVote(VoteForm),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TransferAnswer {
    Accepted,
    VoteChanged { expected: VoteForm, actual: VoteForm },
    LogNotFlushed { expected: Option<LogIdForm>, actual: Option<LogIdForm> },
}

/// What became of a write that was handed to a supposed leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Proposed {
    Done(Reply),
    /// Certainly not written: try elsewhere.
    NotLeader,
    /// May or may not come to be written; sending it again is safe.
    Unknown,
    /// Certainly not written: the leader's disk is full.
    DiskFull,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum ReadAnswer {
    /// Read when this is applied.
    At(Option<u64>),
    NotLeader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaseAnswer {
    NotLeader,
    /// It never was, has ended, or is about to.
    Ended,
    Lives {
        ttl_ms: u64,
        left_ms: u64,
    },
}

/// Encodes a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    postcard::to_extend(message, vec![VERSION]).map_err(io::Error::other)
}

/// Decodes a message.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let fault = |fault: String| io::Error::new(io::ErrorKind::InvalidData, format!("a peer's message: {fault}"));
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|e| fault(e.to_string())),
        Some((version, _)) => Err(fault(format!("unknown format {version}"))),
        None => Err(fault("empty".to_owned())),
    }
}
