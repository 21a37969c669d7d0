//! What can go wrong.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::{ClusterId, LeaseId, NodeId, Revision};
use crate::key::Key;
use crate::membership::ChangeError;

/// Why a call to the store did not do what was asked.
///
/// Except for [`Error::OutcomeUnknown`], an error means that nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This node belongs to no cluster yet.
    #[error("the store is not up yet: {reason}")]
    NotReady {
        /// A sentence for a person: what is waited for.
        reason: String,
    },
    /// No leader could be reached, usually because a majority of the voters is away.
    #[error("no leader answered within {} ms; check that a majority of the nodes is up", waited.as_millis())]
    NoLeader {
        /// How long it was tried.
        waited: Duration,
    },
    /// The expectation of a put or delete did not hold.
    #[error("the key is not as expected: {}", match current {
        Some(revision) => format!("it was last written at revision {revision}"),
        None => "it does not exist".to_owned(),
    })]
    Conflict {
        /// When the key was last written; `None`: it does not exist.
        current: Option<Revision>,
    },
    /// A value or transaction is larger than allowed.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// "the value", "the transaction" or "what the transaction reads".
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// A transaction has more steps than allowed.
    #[error("the transaction has {count} comparisons or steps in a branch, at most {max} are allowed")]
    TooManyOps {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A transaction would delete more keys by prefix than allowed; nothing was deleted.
    #[error("there are more than {max} keys under the prefixes to delete; delete them in smaller parts")]
    TooManyDeletes {
        /// How many there may be.
        max: usize,
    },
    /// A lease must live at least a second and at most a year.
    #[error("a lease lives between 1 second and 365 days, not {} ms", ttl.as_millis())]
    BadTtl {
        /// What was asked for.
        ttl: Duration,
    },
    /// The write may or may not have happened; read to find out.
    #[error("the connection to the leader was lost while it wrote; the write may or may not have happened")]
    OutcomeUnknown,
    /// The lease never was, has ended, or was revoked.
    #[error("there is no lease {id}; grant a new one")]
    LeaseNotFound {
        /// The lease asked for.
        id: LeaseId,
    },
    /// The leader has too little room on its disk, and no other node could take over.
    #[error(
        "the disk of the node that leads is full; free some space below its data directory, and it goes on by itself"
    )]
    DiskFull,
    /// The membership may not be changed like this.
    #[error(transparent)]
    Membership(#[from] ChangeError),
    /// The cluster may not be rescued, or not here.
    #[error(transparent)]
    Rescue(#[from] RescueError),
    /// Too many calls are in flight on this node.
    #[error("the store is busy; try again")]
    Busy,
    /// [`Store::shutdown`](crate::Store::shutdown) was called.
    #[error("the store is shutting down")]
    ShuttingDown,
    /// The node must stop and be started again; its state is on disk.
    #[error("the store has stopped: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed a little later without anybody changing anything.
    ///
    /// [`Error::OutcomeUnknown`] is not among them: repeating it is only safe for writes that may happen twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NotReady { .. } | Self::NoLeader { .. } | Self::DiskFull | Self::Busy)
    }
}

/// Why a node may not go on alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RescueError {
    /// Nothing is lost that would have to be given up.
    #[error(
        "{answering} of {voters} voters answer, which is a majority: there is nothing to rescue. If one was just lost, \
         wait some seconds; if they elect no leader, look at their logs"
    )]
    QuorumThere {
        /// How many there are.
        voters: usize,
        /// How many of them answer.
        answering: usize,
    },
    /// Entries would be lost that another survivor has.
    #[error(
        "node {node} answers too and has stored more: its log ends at entry {index}, the one here at {own}. Rescue the \
         cluster there, or stop that node first if it must not be used"
    )]
    Newer {
        /// The other survivor.
        node: NodeId,
        /// The last entry there.
        index: u64,
        /// The last entry here.
        own: u64,
    },
    /// There is no data to go on with.
    #[error("this node belongs to no cluster, so it has nothing to rescue")]
    NoMember,
}

/// Why a backup was not put into the cluster. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The file did not come to its end.
    #[error("the backup was cut off on its way: {reason}")]
    Interrupted {
        /// What happened.
        reason: String,
    },
    /// It is no backup, damaged, or of a newer format.
    #[error("{fault}")]
    Damaged {
        /// A sentence that names the fault.
        fault: String,
    },
    /// It has values that are of no use here.
    #[error("{count} values of the backup were sealed with another secret, the first of them {key}")]
    OtherSecret {
        /// The first of them.
        key: Key,
        /// How many there are.
        count: u64,
    },
    /// The cluster is in use.
    #[error("a backup is only put into a cluster that holds nothing; this one holds {key}")]
    NotEmpty {
        /// What it holds.
        key: Key,
    },
    /// Another restore took the place of this one.
    #[error("another restore began meanwhile")]
    Superseded,
    /// The file could not be kept on this node.
    #[error("the backup cannot be kept on this node: {reason}")]
    Disk {
        /// Why.
        reason: String,
    },
    /// The store could not be written to.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Damaged { fault: error.to_string() },
            _ => Self::Disk { reason: error.to_string() },
        }
    }
}

/// Why the store could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process works in the data directory.
    #[error("{} is in use by another process; stop it or choose another data directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file or directory cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was written by something newer, or is damaged beyond its tail.
    #[error("{} cannot be read: {fault}. Restore the data directory from a backup, or empty it: the node then joins anew", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The state is gone and neither log nor snapshot can bring it back.
    #[error("the state in {} cannot be rebuilt: the log begins after entry {log_starts} and no snapshot reaches it. Empty the data directory: the node then joins anew", path.display())]
    Unrecoverable {
        /// The data directory.
        path: PathBuf,
        /// The last entry that the log no longer has.
        log_starts: u64,
    },
    /// The cluster of this node was rescued without it.
    #[error("{}: {}", path.display(), crate::encounter::superseded(*cluster, *by))]
    Superseded {
        /// The data directory.
        path: PathBuf,
        /// What the cluster was.
        cluster: ClusterId,
        /// What it is now.
        by: ClusterId,
    },
    /// The listener cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listener {
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An address in the configuration is not `host:port`.
    #[error("{address:?} is not an address of the form host:port")]
    BadAddress {
        /// The text given.
        address: String,
    },
    /// The file with the secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret cannot be turned into a certificate authority.
    #[error("cannot prepare the cluster's certificates: {reason}")]
    Tls {
        /// What the TLS library said.
        reason: String,
    },
    /// The consensus engine refused to start.
    #[error("the consensus engine did not start: {reason}")]
    Raft {
        /// What it said.
        reason: String,
    },
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Too easy to guess.
    #[error(
        "the secret has {chars} characters; it needs at least {min}, for example the output of: openssl rand -hex 32"
    )]
    TooShort {
        /// Characters given.
        chars: usize,
        /// Characters needed.
        min: usize,
    },
    /// The file that keeps it cannot be used.
    #[error("cannot use the secret in {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system's random number generator failed")]
    Random,
}

/// Why a sealed record cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Too short to be a sealed record, or not one.
    #[error("this is not a sealed record")]
    Malformed,
    /// Sealed by a newer version.
    #[error("the record has the unknown format {version}; a newer version of Roo wrote it")]
    UnknownVersion {
        /// The version byte found.
        version: u8,
    },
    /// Sealed with another secret.
    #[error("the record was sealed with another secret")]
    OtherKey,
    /// The record or its name was changed.
    #[error("the record is damaged, or belongs to another name")]
    Damaged,
    /// The system gave no random bytes.
    #[error("the system's random number generator failed")]
    Random,
}
