//! The replicated store of Roo: openraft, a durable log, a state machine in memory, watches, leases and membership.
//!
//! # Vocabulary
//!
//! - **node**: one running store with its data directory; **member**: a node that belongs to the cluster, as a
//!   *voter* (counts towards the quorum) or a *learner* (only follows).
//! - **entry**: a value under a key, with the revisions of its creation and last change.
//! - **revision**: one counter for the whole store; every transaction that changes something takes the next.
//! - **lease**: a promise to be renewed; when it ends, the entries that hang on it are deleted.
//! - **log**: what the cluster agreed on, durable before it is acknowledged; **state**: what follows from it, in memory,
//!   with a *copy* on disk that lags; **snapshot**: a file with the state at one point of the log.
//! - **watch**: the state under a prefix, then everything that happens to it, without gap.

mod config;
mod error;
mod feed;
mod follow;
mod id;
mod key;
mod leases;
mod status;
mod store;
mod txn;
mod value_bytes;
mod watch;

mod seal;
mod secret;

mod address_book;
mod attest;
mod backup;
mod controller;
mod disk;
mod durable;
mod encounter;
mod failover;
mod footprint;
mod formation;
mod handler;
mod history_age;
mod identity;
mod keyring;
mod lease;
mod membership;
mod node;
mod peer;
mod persister;
mod reader;
mod reset;
mod room;
mod rounds;
mod runtime;
mod start;
mod trim;
mod writer;

mod command;
mod engine;
mod raft;
mod records;
mod snapshot;
mod state;
mod view;
mod wal;

#[cfg(test)]
mod sim;

pub use attest::{Kin, KinNetwork, KinTask, Orchestrator};
pub use backup::{BackupHeader, RestoreOptions, RestoreOutcome};
pub use config::{Config, Peers, VotersMax};
pub use error::{Error, RescueError, RestoreError, SealError, SecretError, StartError};
pub use follow::{Follow, Since};
pub use footprint::{Footprint, SnapshotFootprint};
pub use id::{ClusterId, LeaseId, NodeId, ParseIdError, Revision};
pub use key::{KEY_BYTES_MAX, Key, KeyError};
pub use keyring::{Keyring, Secrets};
pub use leases::{Lease, LeasePage};
pub use membership::{ChangeError, MemberChange};
pub use seal::Sealer;
pub use secret::{SECRET_CHARS_MIN, Secret, SecretId};
pub use status::{Member, Phase, Role, Status};
pub use store::Store;
pub use txn::{
    Compare, Entry, Expect, Fact, Op, OpResult, Operator, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, PutOptions,
    ReadLevel, Scan, TXN_BYTES_MAX, TXN_DELETES_MAX, TXN_OPS_MAX, TXN_RESULT_BYTES_MAX, Test, Txn, TxnOutcome,
    VALUE_BYTES_MAX,
};
pub use watch::{Batch, Event, FORMS, SharedBatch, Watch, WatchError};
