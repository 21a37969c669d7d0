//! How nodes of one service come to share a secret that nobody gave them.
//!
//! An orchestrator such as Docker Swarm knows which tasks make up this node's service, at which addresses, and for each of
//! them a *token* that is told to nobody but whoever may ask the orchestrator itself: neither the network nor another
//! container on it shows the token. Two tasks prove to each other over TLS that they know both of their tokens, bound to
//! that very connection; then the one hands the secret over.
//!
//! - An address alone proves nothing: whoever takes one that is not its own lacks the tokens. A name in the DNS proves
//!   nothing either, since other containers may answer to it.
//! - A member of a cluster gives its secret away and takes none. Of nodes that are in no cluster yet all take the secret
//!   with the lowest id that any of them has, so that they come to have the same one.
//! - Who is in a cluster, or has promised to found one, goes by its secret whatever the others have: see
//!   [`Identity::adopt`](crate::identity::Identity::adopt).
//! - Only a node that can be told how many tasks there are meant to be founds a cluster: see [`Orchestrator::meant`].
//! - A node that was given its secret by a person takes no part in this, and hands none out.

mod answer;
mod ask;
mod channel;
mod choose;
mod driver;
mod proof;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use ask::Asker;
use driver::Driver;

use crate::error::StartError;
use crate::keyring::Keyring;
use crate::node::Node;

pub(crate) use answer::Door;
pub(crate) use channel::ALPN;

/// Whoever runs this node and knows which others belong to it.
pub trait Orchestrator: fmt::Debug + Send + Sync + 'static {
    /// This node's task and the others of its service that run now. Asked twice in a second while the node is in no cluster,
    /// and for strangers who ask for the secret, who wait for it: takes five seconds at most. The future may be dropped.
    ///
    /// # Errors
    /// A sentence that says what is in the way and what to do about it.
    fn kin(&self) -> BoxFuture<'_, Result<Kin, String>>;

    /// How many tasks the service is meant to have, whether or not they run; `None` where this node is not told. The same
    /// wherever it is told, or two clusters could be founded. The future may be dropped.
    ///
    /// # Errors
    /// As [`kin`](Self::kin).
    fn meant(&self) -> BoxFuture<'_, Result<Option<usize>, String>>;
}

/// The tasks of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kin {
    /// The service's name.
    pub service: String,
    /// They as seen on each network that this node's task is in.
    pub networks: Vec<KinNetwork>,
}

/// The tasks on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinNetwork {
    /// This node's own.
    pub own: KinTask,
    /// All others.
    pub others: Vec<KinTask>,
}

/// One task on one network.
#[derive(Clone, PartialEq, Eq)]
pub struct KinTask {
    /// Its address.
    pub address: IpAddr,
    /// What only it and those who may ask the orchestrator know.
    pub token: Zeroizing<String>,
}

/// Tells nothing of the token.
impl fmt::Debug for KinTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KinTask({})", self.address)
    }
}

impl Kin {
    /// The two tasks at the ends of a connection: this node's own, and the other one.
    fn ends(&self, near: IpAddr, far: IpAddr) -> Option<(&KinTask, &KinTask)> {
        let network = self.networks.iter().find(|network| network.own.address == near)?;
        Some((&network.own, network.others.iter().find(|task| task.address == far)?))
    }

    /// Every other task with this node's own on the same network.
    fn others(&self) -> impl Iterator<Item = (&KinTask, &KinTask)> {
        self.networks.iter().flat_map(|network| network.others.iter().map(|other| (&network.own, other)))
    }
}

/// A node and what vouches for the others.
#[derive(Clone)]
pub(crate) struct Kinship {
    pub(crate) node: Arc<Node>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) orchestrator: Arc<dyn Orchestrator>,
}

impl Kinship {
    /// Begins to ask the others, who listen on this port, and makes the door at which they ask. `expect` is how many nodes a
    /// person said to expect; zero: nobody said.
    pub(crate) fn begin(self, port: u16, expect: usize) -> Result<Arc<Door>, StartError> {
        let driver = Driver { kinship: self.clone(), asker: Asker::new(port)?, expect };
        self.node.tracker.spawn(driver.run());
        Ok(Arc::new(Door::new(self)?))
    }
}
