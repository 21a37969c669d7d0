//! The replicated store of Roo: openraft, a durable log, a sled state machine, watches, leases and membership.
//!
//! # Vocabulary
//!
//! - **node**: one running store with its data directory; **member**: a node that belongs to the cluster, as a
//!   *voter* (counts towards the quorum) or a *learner* (only follows).
//! - **entry**: a value under a key, with the revisions of its creation and last change.
//! - **revision**: one counter for the whole store; every transaction that changes something takes the next.
//! - **lease**: a promise to be renewed; when it ends, the entries that hang on it are deleted.
//! - **log**: what the cluster agreed on, durable before it is acknowledged; **state**: what follows from it,
//!   a view that can be rebuilt; **snapshot**: a file with the state at one point of the log.
//! - **watch**: the state under a prefix, then everything that happens to it, without gap.

mod config;
mod error;
mod id;
mod key;
mod status;
mod store;
mod txn;
mod value_bytes;
mod watch;

mod seal;
mod secret;

mod address_book;
mod controller;
mod durable;
mod formation;
mod handler;
mod identity;
mod lease;
mod node;
mod peer;
mod reader;
mod start;
mod writer;

mod command;
mod engine;
mod raft;
mod snapshot;
mod state;
mod view;

pub use config::{Config, Peers};
pub use error::{Error, SealError, SecretError, StartError};
pub use id::{ClusterId, LeaseId, NodeId, ParseIdError, Revision};
pub use key::{KEY_BYTES_MAX, Key, KeyError};
pub use seal::Sealer;
pub use secret::{SECRET_CHARS_MIN, Secret};
pub use status::{Member, Phase, Role, Status};
pub use store::Store;
pub use txn::{
    Compare, Entry, Expect, Op, OpResult, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, PutOptions, ReadLevel, Scan,
    TXN_BYTES_MAX, TXN_OPS_MAX, Test, Txn, TxnOutcome, VALUE_BYTES_MAX,
};
pub use watch::{Batch, Event, Watch, WatchError};
