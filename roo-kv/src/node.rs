//! A running node: its parts, and what several of them need of each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address_book::AddressBook;
use crate::command::{Command, Reply, Request};
use crate::config::VotersMax;
use crate::encounter::Encounters;
use crate::error::Error;
use crate::failover::Callers;
use crate::formation::{Clearance, OwnAddress};
use crate::id::NodeId;
use crate::identity::{Identity, Standing};
use crate::lease::LeaseClock;
use crate::peer::{Links, Proposed, ReadAnswer};
use crate::persister::Persisting;
use crate::raft::{LogStore, Peer, Raft, Room};
use crate::rounds::Rounds;
use crate::snapshot::Shelf;
use crate::status::{Member, Phase, Role, Status};
use crate::view::View;
use crate::writer::{Batcher, Sequencer};

/// How long a call is tried across elections and lost links.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_secs(5);

/// How long one attempt at a peer may take; a leader that hangs is replaced within that time.
pub(crate) const ATTEMPT_PATIENCE: Duration = Duration::from_secs(2);

/// How long a write waits for a leader whose disk is full to hand the leadership to another.
const DISK_FULL_PATIENCE: Duration = Duration::from_secs(1);

/// Between attempts, unless something changes sooner.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A leader that no quorum acknowledged for this long may have been replaced.
pub(crate) const QUORUM_SILENCE_MAX: Duration = Duration::from_millis(900);

/// The parts.
pub(crate) struct Node {
    pub(crate) data_dir: PathBuf,
    pub(crate) identity: Arc<Identity>,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) links: Arc<Links>,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) view: Arc<View>,
    pub(crate) persisting: Persisting,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) own_address: OwnAddress,
    pub(crate) sequencer: Sequencer,
    /// To the log, while this node leads.
    pub(crate) batcher: Batcher,
    /// To another node, while that leads.
    pub(crate) forwarder: Batcher,
    pub(crate) leases: LeaseClock,
    /// A member that is silent for this long is removed; `None`: never.
    pub(crate) dead_after: Option<Duration>,
    /// How many members vote at most.
    pub(crate) voters_max: VotersMax,
    /// Held while the membership changes.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) encounters: Encounters,
    pub(crate) callers: Callers,
    /// The leader said that this node is no member.
    pub(crate) excluded: AtomicBool,
    /// The cluster has had other nodes, or held something that somebody would miss. Never taken back, as others count
    /// on it; so not said before it is certain.
    pub(crate) settled: AtomicBool,
    /// Why the node must end, once it must.
    pub(crate) ending: OnceLock<Ending>,
    /// Where linearizable reads learn how far they must see.
    pub(crate) reads: Rounds<ReadAnswer>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) waiting_for: Mutex<String>,
    /// What it may do to come into a cluster.
    pub(crate) clearance: Mutex<Clearance>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Keeps others out of the data directory until the node is shut down.
    pub(crate) lock: Mutex<Option<std::fs::File>>,
}

/// The leader as far as Raft knows, and the address the membership has for it.
pub(crate) fn leader_of(raft: &Raft) -> Option<(NodeId, Option<String>)> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let id = metrics.current_leader?;
    let address = metrics.membership_config.get_node(&id).map(|peer| peer.address.clone());
    Some((NodeId(id), address))
}

/// The end of a node that could go on, but must not.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: String,
    /// It is to be started again at once.
    pub(crate) restart: bool,
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.identity.node
    }

    /// The leader as far as this node knows, and the address the membership has for it.
    pub(crate) fn leader(&self) -> Option<(NodeId, Option<String>)> {
        leader_of(&self.raft)
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leading(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// Whether a quorum acknowledged this leader lately.
    pub(crate) fn leads_surely(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // A lone voter is its own quorum; nobody acknowledges anything to it.
        let alone = metrics.membership_config.voter_ids().eq([self.id().0]);
        let acknowledged = || {
            let at = metrics.last_quorum_acked.as_ref();
            at.is_some_and(|at| openraft::Instant::elapsed(&**at) < QUORUM_SILENCE_MAX)
        };
        metrics.state == ServerState::Leader && (alone || acknowledged())
    }

    /// The index of the last entry in this node's log.
    pub(crate) fn last_stored(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().last_log_index
    }

    /// Whether another cluster has to respect this node's.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// What this node may do to come into a cluster.
    pub(crate) fn clearance(&self) -> Clearance {
        self.clearance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it may do.
    pub(crate) fn clear(&self, clearance: Clearance) {
        *self.clearance.lock().unwrap_or_else(PoisonError::into_inner) = clearance;
    }

    /// Takes no further part in the consensus, and has the process end.
    pub(crate) fn end(&self, ending: Ending) {
        tracing::error!(reason = ending.reason, "this node can't go on like this");
        if self.ending.set(ending).is_ok() {
            let raft = self.raft.clone();
            self.tracker.spawn(async move {
                if let Err(error) = raft.shutdown().await {
                    tracing::warn!(%error, "the consensus engine did not stop in order");
                }
            });
        }
    }

    /// All members and their addresses as agreed on.
    pub(crate) fn members(&self) -> BTreeMap<NodeId, Peer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(id, peer)| (NodeId(*id), peer.clone())).collect()
    }

    /// Has a command carried out once, by whoever leads. See [`Error`] for what it means if it fails.
    pub(crate) async fn write(&self, command: Command) -> Result<Reply, Error> {
        self.write_within(command, CALL_PATIENCE).await
    }

    /// As [`write`](Self::write), for calls that are tried for another time than most.
    pub(crate) async fn write_within(&self, command: Command, patience: Duration) -> Result<Reply, Error> {
        self.check_running()?;
        let started = Instant::now();
        let deadline = started + patience;
        let ticket = tokio::time::timeout_at(deadline, self.sequencer.open()).await.map_err(|_| Error::Busy)?;
        let mut unknown = false;
        // Since when the leader's disk is full.
        let mut full = None;
        loop {
            let request = Request {
                origin: self.sequencer.origin,
                sequence: ticket.sequence,
                settled_below: ticket.settled_below(),
                command: command.clone(),
            };
            match tokio::time::timeout_at(deadline, self.propose(request)).await {
                Ok(Proposed::Done(Reply::Forgotten)) => return Err(Error::OutcomeUnknown),
                Ok(Proposed::Done(reply)) => return Ok(reply),
                Ok(Proposed::NotLeader) => {}
                Ok(Proposed::DiskFull) => {
                    let since = *full.get_or_insert_with(Instant::now);
                    if !unknown && since.elapsed() >= DISK_FULL_PATIENCE {
                        return Err(Error::DiskFull);
                    }
                }
                Ok(Proposed::Unknown) | Err(_) => unknown = true,
            }
            if let Err(stopped) = self.check_running() {
                return Err(if unknown { Error::OutcomeUnknown } else { stopped });
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(match (unknown, full) {
                    (true, _) => Error::OutcomeUnknown,
                    (false, Some(_)) => Error::DiskFull,
                    (false, None) => self.no_leader(started),
                });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn propose(&self, request: Request) -> Proposed {
        match self.leader() {
            None => Proposed::NotLeader,
            Some((leader, _)) if leader == self.id() => self.propose_here(request).await,
            Some(_) => self.forwarder.propose(request).await,
        }
    }

    /// Has a request written by this node, if it leads.
    pub(crate) async fn propose_here(&self, request: Request) -> Proposed {
        if self.leading().is_none() {
            return Proposed::NotLeader;
        }
        match self.log.room() {
            Room::Enough => {}
            Room::Little if request.command.only_removes() => {}
            Room::Little | Room::None => return Proposed::DiskFull,
        }
        let ending = match request.command {
            Command::LeaseRevoke { id } | Command::LeaseTimeOut { id, .. } => Some(id),
            _ => None,
        };
        let proposed = self.batcher.propose(request).await;
        match (&proposed, ending) {
            (Proposed::Done(Reply::LeaseGranted { id, ttl_ms }), _) => {
                self.leases.granted(*id, Duration::from_millis(*ttl_ms), Instant::now());
            }
            // Whoever keeps it alive from here on must hear that it is gone.
            (Proposed::Done(Reply::LeaseEndedAt { .. } | Reply::LeaseNotFound { .. }), Some(id)) => {
                self.leases.finished(id, true);
            }
            _ => {}
        }
        proposed
    }

    /// Waits until the state here has applied the entry at `index`.
    pub(crate) async fn applied(&self, index: Option<u64>) {
        let mut progress = self.view.progress();
        // The sender lives as long as the view, which this node holds.
        drop(progress.wait_for(|progress| progress.applied >= index).await);
    }

    /// Nothing can be done any more, or nothing yet.
    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        match &self.status.borrow().phase {
            Phase::Failed { reason } => Err(Error::Failed { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    /// Why there is nobody to ask.
    pub(crate) fn no_leader(&self, since: Instant) -> Error {
        match &self.status.borrow().phase {
            Phase::Forming { waiting_for } => Error::NotReady { reason: format!("waiting for {waiting_for}") },
            _ => Error::NoLeader { waited: since.elapsed() },
        }
    }

    /// Founds the cluster with these members; does nothing if that has happened.
    pub(crate) async fn initialize(&self, founders: &BTreeMap<u64, String>) {
        if !matches!(self.raft.is_initialized().await, Ok(false)) {
            return;
        }
        let peers: BTreeMap<u64, Peer> =
            founders.iter().map(|(id, address)| (*id, Peer::at(address.clone()))).collect();
        if let Err(error) = self.raft.initialize(peers).await {
            tracing::error!(%error, "cannot write the first entry of the cluster");
        }
    }

    /// What is to be said about the node now.
    pub(crate) fn describe(&self, before: &Status) -> Status {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let progress = *self.view.progress().borrow();
        let standing = self.identity.standing();
        // A leader that a quorum has left does not step down by itself, but nothing can be written through it. And
        // a follower forgets a lost leader only when another is elected, for which there may be too few.
        let leads = |id: &NodeId| if *id == self.id() { self.leads_surely() } else { self.book.is_reachable(*id) };
        let leader = metrics.current_leader.map(NodeId).filter(leads);
        let voters: std::collections::BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        // What the leader knows from replication is newer than what nodes tell each other.
        let replicated = |id: NodeId| Some(metrics.replication.as_ref()?.get(&id.0)?.as_ref()?.index);
        let stored = |id: NodeId| match id == self.id() {
            true => metrics.last_log_index,
            false => replicated(id).or_else(|| self.book.stored(id)),
        };
        let newest = metrics.membership_config.nodes().filter_map(|(id, _)| stored(NodeId(*id))).max();
        let members: Vec<Member> = metrics
            .membership_config
            .nodes()
            .map(|(id, peer)| {
                let node = NodeId(*id);
                let own = node == self.id();
                let known = if own { Some(self.own_address.current()) } else { self.book.address(node) };
                Member {
                    id: node,
                    address: known.unwrap_or_else(|| peer.address.clone()),
                    voter: voters.contains(id),
                    held: peer.held,
                    leader: leader == Some(node),
                    reachable: own || self.book.is_reachable(node),
                    last_heard: (!own && !self.book.is_reachable(node))
                        .then(|| self.book.last_heard_at(node))
                        .flatten(),
                    behind: stored(node).zip(newest).map(|(stored, newest)| newest.saturating_sub(stored)),
                }
            })
            .collect();
        let phase = match (&before.phase, self.ending.get(), metrics.running_state) {
            (Phase::Failed { reason }, ..) | (_, Some(Ending { reason, .. }), _) => {
                Phase::Failed { reason: reason.clone() }
            }
            (_, _, Err(fatal)) if !self.stop.is_cancelled() => Phase::Failed { reason: fatal.to_string() },
            _ => self.phase(&standing, leader, !members.is_empty()),
        };
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            _ => Role::Learner,
        };
        Status {
            node_id: self.id(),
            cluster_id: standing.cluster(),
            phase,
            role,
            leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: progress.applied,
            snapshot: self.shelf.newest().and_then(|(header, _)| header.meta.applied).map(|id| id.index),
            revision: progress.revision,
            members,
            disk_full: self.log.room() != Room::Enough,
            address: self.own_address.current(),
            started: before.started,
        }
    }

    fn phase(&self, standing: &Standing, leader: Option<NodeId>, has_members: bool) -> Phase {
        let belongs = has_members && !self.excluded.load(Ordering::Relaxed);
        match (standing, leader) {
            (Standing::Member { .. }, Some(_)) if belongs => Phase::Ready,
            (Standing::Member { .. }, None) if belongs => Phase::NoLeader,
            _ => {
                let waiting_for = self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Phase::Forming { waiting_for }
            }
        }
    }
}
