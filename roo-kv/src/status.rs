//! What a node can say about itself without asking anybody.

use std::time::SystemTime;

use serde::Serialize;

use crate::id::{ClusterId, NodeId, Revision};

/// A view of the node at one moment. Cheap to take: no I/O.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// This node.
    pub node_id: NodeId,
    /// The cluster it belongs to, once it does.
    pub cluster_id: Option<ClusterId>,
    /// Whether it can serve.
    pub phase: Phase,
    /// Its part in the consensus.
    pub role: Role,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The consensus term.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// Index of the last entry known to be committed.
    pub committed: Option<u64>,
    /// Index of the last entry applied here.
    pub applied: Option<u64>,
    /// Index of the last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// The store's revision here.
    pub revision: Revision,
    /// All members of the cluster, by id.
    pub members: Vec<Member>,
    /// There is too little room on its disk: while it leads, it refuses writes.
    pub disk_full: bool,
    /// Where others reach this node (`host:port`), as far as it knows.
    pub address: String,
    /// When this node started, in milliseconds since 1970.
    pub started: u64,
}

impl Status {
    /// Whether reads and writes can be expected to succeed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }
}

/// Whether a node can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum Phase {
    /// Belongs to no cluster yet. Next: `Ready`, `Failed`.
    Forming {
        /// A sentence for a person: what is waited for.
        waiting_for: String,
    },
    /// Member of a cluster that has a leader. Next: `NoLeader`, `Failed`.
    Ready,
    /// Member of a cluster without a known leader. Next: `Ready`, `Failed`.
    NoLeader,
    /// Must be restarted; the state is on disk. Final.
    Failed {
        /// What happened.
        reason: String,
    },
}

/// A node's part in the consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Orders the writes.
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// Where it was last reached (`host:port`).
    pub address: String,
    /// Counts towards the quorum.
    pub voter: bool,
    /// Somebody wants it not to vote; it is not promoted by itself.
    pub held: bool,
    /// Leads, as far as this node knows.
    pub leader: bool,
    /// Answered this node, or was heard from, in the last seconds. True for the node itself.
    pub reachable: bool,
    /// When this node last heard from one that is not reachable; `None`: not since this one started.
    #[serde(skip)]
    pub last_heard: Option<SystemTime>,
    /// How many entries its log lacks of the longest that this node knows of. The leader knows it exactly, others are
    /// a few seconds behind; `None`: not known.
    pub behind: Option<u64>,
}
