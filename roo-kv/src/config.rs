//! How a store is set up.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::attest::Orchestrator;
use crate::secret::Secret;

/// Everything a [`Store`](crate::Store) needs to start.
#[derive(Debug)]
pub struct Config {
    /// Identity, log, state and snapshots live below; created if absent, owned exclusively while running.
    pub data_dir: PathBuf,
    /// The Raft port, bound by the caller.
    pub listener: TcpListener,
    /// `host:port` that peers dial. `None`: the listener's address if it is a specific one, else what peers say
    /// they see, else the loopback address.
    pub advertise: Option<String>,
    /// What the nodes of one cluster share.
    pub secret: Secret,
    /// Who vouches for the other nodes, where nobody gave the node a secret and it made one itself: it then goes by that of
    /// the others, hands its own to those that the orchestrator knows, and founds no cluster before it is told how many
    /// nodes there are meant to be. `None`: the secret stays, and decides who is let in.
    pub orchestrator: Option<Arc<dyn Orchestrator>>,
    /// How to find others.
    pub peers: Peers,
    /// How long to wait before founding a cluster, and how long an answer of the DNS must stay the same before it
    /// is believed; four times as long if it names this node alone. Zero is allowed.
    pub start_delay: Duration,
    /// How many nodes found the cluster together, where [`peers`](Self::peers) may show fewer: fewer than a majority of
    /// them never found one. Zero: as many as it shows. To be the same for all nodes.
    pub expect: usize,
    /// A member that is silent for this long is removed when the others can do without it. Zero: never. Below five
    /// seconds it has no effect, as a node counts as silent only after these.
    pub dead_after: Duration,
    /// How many members vote at most. What the leader was given counts.
    pub voters_max: VotersMax,
    /// Keys that whoever uses the store writes by itself and makes anew. A node alone whose store never holds any other,
    /// and that was found by a name, may give up its cluster for another one under that name.
    pub is_negligible: fn(&str) -> bool,
}

/// How a node finds others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Not at all: it founds a cluster of its own at once. Others may still join it.
    Alone,
    /// At these addresses (`host:port`), whether or not the node itself is among them.
    List(Vec<String>),
    /// At the addresses of a name.
    Dns {
        /// The name, whose A and AAAA records are the nodes.
        name: String,
        /// Their Raft port.
        port: u16,
        /// The name server to ask; `None`: as the system is set up.
        resolver: Option<SocketAddr>,
    },
}

/// How many members of a cluster vote at most; the others follow without a vote. An odd number, as an even one survives
/// no more losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VotersMax {
    /// Survives the loss of any one.
    Three,
    /// Survives the loss of any two.
    Five,
    /// Survives the loss of any three.
    #[default]
    Seven,
}

impl VotersMax {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Three => 3,
            Self::Five => 5,
            Self::Seven => 7,
        }
    }
}
