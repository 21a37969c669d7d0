//! Who this node is, and where it stands towards a cluster: what it has promised must survive a crash.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::StartError;
use crate::id::{ClusterId, NodeId};

const VERSION: u8 = 1;
const NODE_FILE: &str = "node";
const STANDING_FILE: &str = "cluster";

/// Where a node stands. A node founds or joins one cluster in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Free. Next: `Founding`, `Promised`, `Member`.
    #[default]
    Pristine,
    /// Gathers grants to found this cluster, itself being the first. Next: `Member`, or `Pristine` when it yields.
    Founding { cluster: ClusterId, attempt: u64 },
    /// Has granted this cluster to be founded with it, and nothing else. Next: `Member`; `Pristine` when released.
    Promised { initiator: NodeId, cluster: ClusterId, attempt: u64, address: String },
    /// Belongs to this cluster; final. The founder keeps whom it founded it with, until the log says so.
    Member { cluster: ClusterId, founders: Option<BTreeMap<u64, String>> },
}

impl Standing {
    /// The cluster the node belongs to.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        match self {
            Self::Member { cluster, .. } => Some(*cluster),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Attempts of this node to found a cluster; each has a higher number than those before.
    attempts: u64,
    standing: Standing,
}

/// The node's identity and its standing, both on disk.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    path: PathBuf,
    record: Mutex<Record>,
    /// Held while the record changes, disk included: whoever only looks need not wait for the disk.
    changing: Mutex<()>,
    /// The cluster that was asked to take this node in: its first message makes the node a member.
    joining: Mutex<Option<ClusterId>>,
}

impl Identity {
    /// Reads the identity; an empty directory gets a new, random one.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Arc<Self>, StartError> {
        let node_path = dir.join(NODE_FILE);
        let node = match durable::read(&node_path, VERSION).map_err(|e| unusable(&node_path, e))? {
            Some(node) => node,
            None => {
                let node = random()?;
                durable::write(&node_path, VERSION, &node).map_err(|e| unusable(&node_path, e))?;
                node
            }
        };
        let path = dir.join(STANDING_FILE);
        let record: Record = durable::read(&path, VERSION).map_err(|e| unusable(&path, e))?.unwrap_or_default();
        Ok(Arc::new(Self {
            node: NodeId(node),
            path,
            record: Mutex::new(record),
            changing: Mutex::new(()),
            joining: Mutex::new(None),
        }))
    }

    /// The present standing.
    pub(crate) fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// The cluster the node belongs to.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.lock().standing.cluster()
    }

    /// Which cluster's first message makes this pristine node its member.
    pub(crate) fn expect_to_join(&self, cluster: ClusterId) {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }

    /// Whether a message of this cluster may be obeyed. Makes the node a member if it waits for just that.
    /// Blocks on the disk the first time.
    pub(crate) fn admit(&self, cluster: ClusterId) -> io::Result<bool> {
        if self.cluster() == Some(cluster) {
            return Ok(true);
        }
        let joining = *self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let after = self.change(|standing| match standing {
            Standing::Promised { cluster: promised, .. } if *promised == cluster => {
                Some(Standing::Member { cluster, founders: None })
            }
            Standing::Pristine if joining == Some(cluster) => Some(Standing::Member { cluster, founders: None }),
            _ => None,
        })?;
        Ok(after.cluster() == Some(cluster))
    }

    /// Begins to found a cluster, if the node is free. Blocks on the disk.
    pub(crate) fn begin_founding(&self) -> io::Result<Standing> {
        let cluster = ClusterId(random().map_err(io::Error::other)?);
        self.change_record(|record| {
            let attempt = record.attempts + 1;
            let next = Record { attempts: attempt, standing: Standing::Founding { cluster, attempt } };
            (record.standing == Standing::Pristine).then_some(next)
        })
    }

    /// Grants an initiator to found its cluster with this node, if the node is free; true if it is granted, now or
    /// before. Durable when it returns. Blocks on the disk.
    pub(crate) fn grant(&self, to: NodeId, cluster: ClusterId, attempt: u64, address: &str) -> io::Result<bool> {
        let promise = Standing::Promised { initiator: to, cluster, attempt, address: address.to_owned() };
        let after = self.change(|standing| match standing {
            Standing::Pristine => Some(promise.clone()),
            // The same initiator with a later attempt has given the earlier one up; one that arrives late is void.
            Standing::Promised { initiator, attempt: before, .. } if *initiator == to && *before < attempt => {
                Some(promise.clone())
            }
            _ => None,
        })?;
        Ok(
            matches!(after, Standing::Promised { initiator, cluster: granted, .. } if initiator == to && granted == cluster),
        )
    }

    /// Moves from exactly this standing to another; nothing happens if it has changed meanwhile. Blocks on the disk.
    pub(crate) fn replace(&self, from: &Standing, to: Standing) -> io::Result<Standing> {
        self.change(|standing| (standing == from).then_some(to))
    }

    fn change(&self, next: impl FnOnce(&Standing) -> Option<Standing>) -> io::Result<Standing> {
        self.change_record(|record| {
            let standing = next(&record.standing)?;
            Some(Record { attempts: record.attempts, standing })
        })
    }

    fn change_record(&self, next: impl FnOnce(&Record) -> Option<Record>) -> io::Result<Standing> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.lock().clone();
        let Some(next) = next(&before) else { return Ok(before.standing) };
        // On disk before anybody can see it.
        durable::write(&self.path, VERSION, &next)?;
        *self.lock() = next.clone();
        Ok(next.standing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random number that is not zero.
pub(crate) fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| StartError::Tls { reason: "the system's random number generator failed".to_owned() })?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

fn unusable(path: &Path, error: io::Error) -> StartError {
    if error.kind() == io::ErrorKind::InvalidData {
        StartError::Damaged { path: path.to_owned(), fault: error.to_string() }
    } else {
        StartError::Io { path: path.to_owned(), source: error }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const X: ClusterId = ClusterId(10);
    const Y: ClusterId = ClusterId(11);

    #[test]
    fn identity_and_promises_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        let again = Identity::load_or_create(dir.path()).unwrap();
        assert_eq!(again.node, identity.node);
        assert!(!again.grant(NodeId(8), Y, 1, "b:1").unwrap());
        assert!(again.grant(NodeId(7), X, 1, "a:1").unwrap());
        assert!(!again.admit(Y).unwrap());
        assert!(again.admit(X).unwrap());
        assert_eq!(Identity::load_or_create(dir.path()).unwrap().cluster(), Some(X));
    }

    #[test]
    fn a_late_message_of_an_earlier_attempt_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        assert!(identity.grant(NodeId(7), Y, 2, "a:1").unwrap());
        assert!(!identity.grant(NodeId(7), X, 1, "a:1").unwrap());
    }

    #[test]
    fn a_founder_grants_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        let founding = identity.begin_founding().unwrap();
        assert!(matches!(founding, Standing::Founding { attempt: 1, .. }));
        assert!(!identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        identity.replace(&founding, Standing::Pristine).unwrap();
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
    }

    #[test]
    fn a_pristine_node_obeys_only_the_cluster_it_asked() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        assert!(!identity.admit(X).unwrap());
        identity.expect_to_join(X);
        assert!(!identity.admit(Y).unwrap());
        assert!(identity.admit(X).unwrap());
    }
}
