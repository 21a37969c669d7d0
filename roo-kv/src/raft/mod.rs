//! The consensus engine: openraft's types as Roo sets them up, and its storage. `peer/network.rs` is its network; beyond
//! these, openraft is named where the engine is set up, asked or told something (start, node, reader, writer, handler,
//! controller, membership, reset).

mod form;
mod log_store;
mod machine;

use serde::{Deserialize, Serialize};

pub(crate) use form::{EntryForm, LogIdForm, PayloadForm, StoredMembershipForm, VoteForm};
pub(crate) use log_store::{LogStore, Room};
pub(crate) use machine::{Machine, announced};

use crate::command::{Replies, Requests};

openraft::declare_raft_types!(
    /// How openraft is set up for Roo.
    pub(crate) Types:
        D = Requests,
        R = Replies,
        NodeId = u64,
        Node = Peer,
        Term = u64,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::Runtime,
);

/// What the membership says about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// `host:port` of its Raft port when the membership was last changed. The address book may know better.
    pub(crate) address: String,
    /// Somebody wants it not to vote.
    pub(crate) held: bool,
}

impl Peer {
    /// A node that may vote.
    pub(crate) fn at(address: String) -> Self {
        Self { address, held: false }
    }
}

pub(crate) type Raft = openraft::Raft<Types, Machine>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type LogEntry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<Types, crate::snapshot::SnapshotFile>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use openraft::StorageError;
    use openraft::testing::log::{StoreBuilder, Suite};
    use tempfile::TempDir;

    use super::*;
    use crate::disk::RealDisk;
    use crate::snapshot::{LogMeter, Shelf};
    use crate::state::{Meta, Tree};
    use crate::view::View;
    use crate::wal::Driver;

    struct OnDisk;

    impl StoreBuilder<Types, LogStore, Machine, TempDir> for OnDisk {
        async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Types>> {
            let dir = tempfile::tempdir().unwrap();
            let log = LogStore::open(Arc::new(RealDisk), &dir.path().join("wal"), Driver::Thread).unwrap();
            let shelf = Arc::new(Shelf::open(Arc::new(RealDisk), &dir.path().join("snapshots")).unwrap());
            let view = View::new(Tree::default(), Meta::default());
            Ok((dir, log, Machine::new(view, shelf, Arc::new(LogMeter::new(0, 0)))))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn log_and_state_machine_pass_the_storage_suite() {
        Suite::test_all(OnDisk).await.unwrap();
    }
}
