//! What follows from a greeting: where a node is, how far it is, and what to think of its cluster.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::ClusterId;
use crate::node::{Ending, Node};
use crate::peer::{Hello, StandingForm};
use crate::runtime::blocking;

/// Other clusters that are remembered.
const CLUSTERS_MAX: usize = 64;

/// Other clusters whose nodes have the same secret.
#[derive(Default)]
pub(crate) struct Encounters {
    met: Mutex<Met>,
}

#[derive(Default)]
struct Met {
    logged: HashSet<ClusterId>,
    rivals: BTreeMap<ClusterId, Rival>,
}

/// A cluster that is not this node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    pub(crate) cluster: ClusterId,
    /// Where one of its nodes is.
    pub(crate) address: String,
    /// It has several nodes, or holds something that somebody would miss.
    pub(crate) settled: bool,
}

impl Encounters {
    /// The clusters met so far.
    pub(crate) fn rivals(&self) -> Vec<Rival> {
        self.lock().rivals.values().cloned().collect()
    }

    /// True the first time.
    fn note(&self, rival: Rival) -> bool {
        let mut met = self.lock();
        if met.rivals.len() < CLUSTERS_MAX || met.rivals.contains_key(&rival.cluster) {
            met.rivals.insert(rival.cluster, rival.clone());
        }
        met.logged.len() < CLUSTERS_MAX && met.logged.insert(rival.cluster)
    }

    fn lock(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// A node, which proved its identity, said this and can be reached at this address.
    pub(crate) fn meet(self: &Arc<Self>, hello: &Hello, address: &str) {
        if hello.node == self.id() {
            return;
        }
        self.book.learn(hello.node, address);
        self.book.has_stored(hello.node, hello.stored);
        let (Some(own), StandingForm::Member { cluster }) = (self.identity.cluster(), hello.standing) else { return };
        if own == cluster {
            self.share_history(hello);
        } else if hello.former.contains(&own) {
            self.stay_behind(own, cluster);
        } else if self.encounters.note(Rival { cluster, address: address.to_owned(), settled: hello.settled }) {
            self.complain(own, cluster, address);
        }
    }

    /// A task of the same service, which proved itself, is in this cluster.
    pub(crate) fn meet_rival(&self, cluster: ClusterId, address: &str, settled: bool) {
        let Some(own) = self.identity.cluster().filter(|own| *own != cluster) else { return };
        if self.encounters.note(Rival { cluster, address: address.to_owned(), settled }) {
            self.complain(own, cluster, address);
        }
    }

    /// Every member has to know from which clusters nodes may come back.
    fn share_history(self: &Arc<Self>, hello: &Hello) {
        let known = self.identity.former();
        if hello.former.iter().all(|cluster| known.contains(cluster)) {
            return;
        }
        let (identity, former) = (Arc::clone(&self.identity), hello.former.clone());
        drop(blocking(move || {
            identity.learn_former(&former).inspect_err(|error| {
                tracing::warn!(%error, "cannot note the clusters that this one was before; it is tried again");
            })
        }));
    }

    /// This node's cluster was rescued without it. To go on would make two histories of one.
    fn stay_behind(self: &Arc<Self>, own: ClusterId, by: ClusterId) {
        let identity = Arc::clone(&self.identity);
        let node = Arc::clone(self);
        let superseding = blocking(move || identity.supersede(by));
        self.tracker.spawn(async move {
            match superseding.await {
                Ok(()) => node.end(Ending { reason: superseded(own, by), restart: false }),
                Err(error) => tracing::error!(%error, "cannot note that this node's cluster was rescued without it"),
            }
        });
    }

    fn complain(&self, own: ClusterId, other: ClusterId, address: &str) {
        if self.identity.former().contains(&other) {
            tracing::error!(
                %address, %other, %own,
                "a node comes back from the time before the cluster was rescued; it is refused, because it may hold \
                 another history: stop it, empty its data directory and start it again to have it join as a new node"
            );
            return;
        }
        tracing::error!(
            %address, %other, %own,
            "a peer of this cluster's name or service belongs to another cluster; give the clusters different secrets or \
             addresses, or stop that node, empty its data directory and start it again to have it join this one"
        );
    }
}

/// What a node says whose cluster was rescued without it.
pub(crate) fn superseded(cluster: ClusterId, by: ClusterId) -> String {
    format!(
        "the cluster {cluster} of this node was rescued as {by} without it and has gone on since. Keep a copy of the \
         data directory if you miss something, then empty it: the node joins anew"
    )
}
