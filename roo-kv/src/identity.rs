//! Who this node is, and where it stands towards a cluster: what it has promised must survive a crash.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::durable;
use crate::error::StartError;
use crate::id::{ClusterId, NodeId};
use crate::runtime::random;

const NODE_VERSION: u8 = 1;
const STANDING_VERSION: u8 = 2;
const NODE_FILE: &str = "node";
const STANDING_FILE: &str = "cluster";

/// Clusters that were rescued on the way to the present one and are remembered.
const FORMER_MAX: usize = 64;

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
    /// Belongs to this cluster. The founder keeps whom it founded it with, until the log says so. Next: `Superseded`;
    /// `Member` of another cluster when it is rescued; `Pristine` when it is reset.
    Member { cluster: ClusterId, founders: Option<BTreeMap<u64, String>> },
    /// Belonged to this cluster, which was rescued without it; final. Its log may hold what the others never had.
    Superseded { cluster: ClusterId, by: ClusterId },
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

/// What is to be done at the next start, before the log is read. May be begun again any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// Become the only voter of what the standing says, keeping the data.
    Rescue,
    /// Forget log and state, which hold nothing that anybody would miss, and be free.
    Reset,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Attempts of this node to found a cluster; each has a higher number than those before.
    attempts: u64,
    standing: Standing,
    /// The clusters that the present one was before it was rescued, the oldest first.
    former: Vec<ClusterId>,
    errand: Option<Errand>,
}

/// The node's identity and its standing, both on disk.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    record: Mutex<Record>,
    /// Held while the record changes, disk included: whoever only looks need not wait for the disk.
    changing: Mutex<()>,
    /// The cluster that was asked to take this node in: its first message makes the node a member.
    joining: Mutex<Option<ClusterId>>,
}

impl Identity {
    /// Reads the identity; an empty directory gets a new, random one.
    pub(crate) fn load_or_create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Arc<Self>, StartError> {
        // What is read from here on is what others may be told: no power cut may take it back.
        disk.sync_dir(dir).map_err(|e| unusable(dir, e))?;
        let node_path = dir.join(NODE_FILE);
        let node = match durable::read(&*disk, &node_path, NODE_VERSION).map_err(|e| unusable(&node_path, e))? {
            Some(node) => node,
            None => {
                let node = random().map_err(|e| unusable(&node_path, e))?;
                durable::write(&*disk, &node_path, NODE_VERSION, &node).map_err(|e| unusable(&node_path, e))?;
                node
            }
        };
        let path = dir.join(STANDING_FILE);
        let record: Record =
            durable::read(&*disk, &path, STANDING_VERSION).map_err(|e| unusable(&path, e))?.unwrap_or_default();
        Ok(Arc::new(Self {
            node: NodeId(node),
            disk,
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
        let cluster = ClusterId(random()?);
        self.change_record(|record| {
            let attempt = record.attempts + 1;
            let standing = Standing::Founding { cluster, attempt };
            (record.standing == Standing::Pristine).then(|| Record { attempts: attempt, standing, ..record.clone() })
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

    /// Has the node go by another secret, of the giver's cluster if it is in one, as far as its standing lets it; true if it
    /// does. Nobody changes the standing meanwhile: who founds a cluster, or is in one, keeps the secret that it has in common
    /// with the others. A claim to found is given up first, and one who granted takes that of the promised cluster alone.
    /// Blocks on the disk.
    pub(crate) fn adopt(&self, from: Option<ClusterId>, adopt: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let mut adopted = Ok(false);
        self.change_record(|record| {
            let free = match &record.standing {
                Standing::Pristine | Standing::Founding { .. } => true,
                Standing::Promised { cluster, .. } => from == Some(*cluster),
                Standing::Member { .. } | Standing::Superseded { .. } => false,
            };
            if free {
                adopted = adopt().map(|()| true);
            }
            let gives_up = matches!(record.standing, Standing::Founding { .. }) && adopted.is_ok();
            gives_up.then(|| Record { standing: Standing::Pristine, ..record.clone() })
        })?;
        adopted
    }

    /// The clusters that the present one was before it was rescued.
    pub(crate) fn former(&self) -> Vec<ClusterId> {
        self.lock().former.clone()
    }

    /// Another member knows of these. Blocks on the disk if that is news.
    pub(crate) fn learn_former(&self, clusters: &[ClusterId]) -> io::Result<()> {
        self.change_record(|record| {
            let news = |id: &&ClusterId| !record.former.contains(id) && record.standing.cluster() != Some(**id);
            let news: Vec<ClusterId> = clusters.iter().filter(news).copied().collect();
            (!news.is_empty()).then(|| Record { former: newest(&record.former, &news), ..record.clone() })
        })?;
        Ok(())
    }

    /// The cluster goes on as another one, without this node. Blocks on the disk.
    pub(crate) fn supersede(&self, by: ClusterId) -> io::Result<()> {
        self.change(|standing| Some(Standing::Superseded { cluster: standing.cluster()?, by })).map(drop)
    }

    /// The cluster goes on as another one, with this node alone, from the next start on. Blocks on the disk.
    pub(crate) fn begin_rescue(&self) -> io::Result<Option<ClusterId>> {
        let cluster = ClusterId(random()?);
        let after = self.change_record(|record| {
            let former = newest(&record.former, &[record.standing.cluster()?]);
            let standing = Standing::Member { cluster, founders: None };
            Some(Record { standing, former, errand: Some(Errand::Rescue), ..record.clone() })
        })?;
        Ok(after.cluster())
    }

    /// The node is free again from the next start on. Blocks on the disk.
    pub(crate) fn begin_reset(&self) -> io::Result<()> {
        self.change_record(|record| Some(Record { errand: Some(Errand::Reset), ..record.clone() })).map(drop)
    }

    /// What is still to be done.
    pub(crate) fn errand(&self) -> Option<Errand> {
        self.lock().errand
    }

    /// What was to be done is done, and durable. Blocks on the disk.
    pub(crate) fn finish_errand(&self) -> io::Result<()> {
        self.change_record(|record| {
            let (standing, former) = match record.errand? {
                Errand::Rescue => (record.standing.clone(), record.former.clone()),
                Errand::Reset => (Standing::Pristine, Vec::new()),
            };
            Some(Record { standing, former, errand: None, ..record.clone() })
        })?;
        Ok(())
    }

    /// What was to be done is not done after all. Blocks on the disk.
    pub(crate) fn cancel_errand(&self) -> io::Result<()> {
        self.change_record(|record| Some(Record { errand: None, ..record.clone() })).map(drop)
    }

    fn change(&self, next: impl FnOnce(&Standing) -> Option<Standing>) -> io::Result<Standing> {
        self.change_record(|record| {
            let standing = next(&record.standing)?;
            Some(Record { standing, ..record.clone() })
        })
    }

    fn change_record(&self, next: impl FnOnce(&Record) -> Option<Record>) -> io::Result<Standing> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.lock().clone();
        let Some(next) = next(&before) else { return Ok(before.standing) };
        // On disk before anybody can see it.
        durable::write(&*self.disk, &self.path, STANDING_VERSION, &next)?;
        *self.lock() = next.clone();
        Ok(next.standing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(known: &[ClusterId], more: &[ClusterId]) -> Vec<ClusterId> {
    let all = [known, more].concat();
    all[all.len().saturating_sub(FORMER_MAX)..].to_vec()
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
    use crate::disk::RealDisk;

    const X: ClusterId = ClusterId(10);
    const Y: ClusterId = ClusterId(11);

    #[test]
    fn identity_and_promises_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        let again = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert_eq!(again.node, identity.node);
        assert!(!again.grant(NodeId(8), Y, 1, "b:1").unwrap());
        assert!(again.grant(NodeId(7), X, 1, "a:1").unwrap());
        assert!(!again.admit(Y).unwrap());
        assert!(again.admit(X).unwrap());
        assert_eq!(Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap().cluster(), Some(X));
    }

    #[test]
    fn a_late_message_of_an_earlier_attempt_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        assert!(identity.grant(NodeId(7), Y, 2, "a:1").unwrap());
        assert!(!identity.grant(NodeId(7), X, 1, "a:1").unwrap());
    }

    #[test]
    fn a_secret_is_taken_from_others_only_by_a_node_that_nobody_counts_on() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        let takes = |from| identity.adopt(from, || Ok(())).unwrap();
        assert!(takes(None) && takes(Some(X)));
        identity.begin_founding().unwrap();
        assert!(identity.adopt(None, || Err(io::ErrorKind::StorageFull.into())).is_err());
        assert!(matches!(identity.standing(), Standing::Founding { .. }));
        assert!(takes(None));
        assert_eq!(identity.standing(), Standing::Pristine, "the claim was made under the former secret");
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        assert!(!takes(None) && !takes(Some(Y)) && takes(Some(X)));
        assert!(matches!(identity.standing(), Standing::Promised { .. }));
        assert!(identity.admit(X).unwrap());
        assert!(!takes(None) && !takes(Some(X)) && !takes(Some(Y)));
    }

    #[test]
    fn a_founder_grants_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        let founding = identity.begin_founding().unwrap();
        assert!(matches!(founding, Standing::Founding { attempt: 1, .. }));
        assert!(!identity.grant(NodeId(7), X, 1, "a:1").unwrap());
        identity.replace(&founding, Standing::Pristine).unwrap();
        assert!(identity.grant(NodeId(7), X, 1, "a:1").unwrap());
    }

    #[test]
    fn a_pristine_node_obeys_only_the_cluster_it_asked() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert!(!identity.admit(X).unwrap());
        identity.expect_to_join(X);
        assert!(!identity.admit(Y).unwrap());
        assert!(identity.admit(X).unwrap());
    }

    #[test]
    fn a_rescue_gives_the_cluster_a_new_identity_and_keeps_the_old_one_in_mind() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert_eq!(identity.begin_rescue().unwrap(), None, "there is nothing to rescue");
        identity.expect_to_join(X);
        assert!(identity.admit(X).unwrap());
        let rescued = identity.begin_rescue().unwrap().unwrap();
        assert_ne!(rescued, X);

        let again = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert_eq!((again.cluster(), again.former(), again.errand()), (Some(rescued), vec![X], Some(Errand::Rescue)));
        again.finish_errand().unwrap();
        again.learn_former(&[X, Y, rescued]).unwrap();
        let again = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert_eq!((again.cluster(), again.former(), again.errand()), (Some(rescued), vec![X, Y], None));
    }

    #[test]
    fn a_node_that_was_left_behind_obeys_nobody_and_one_that_is_reset_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        identity.expect_to_join(X);
        assert!(identity.admit(X).unwrap());
        identity.begin_reset().unwrap();
        assert_eq!(identity.cluster(), Some(X), "not before the next start");
        identity.finish_errand().unwrap();
        assert_eq!(identity.standing(), Standing::Pristine);

        identity.expect_to_join(X);
        assert!(identity.admit(X).unwrap());
        identity.supersede(Y).unwrap();
        let again = Identity::load_or_create(Arc::new(RealDisk), dir.path()).unwrap();
        assert_eq!(again.standing(), Standing::Superseded { cluster: X, by: Y });
        again.expect_to_join(Y);
        assert!(!again.admit(X).unwrap() && !again.admit(Y).unwrap());
    }
}
