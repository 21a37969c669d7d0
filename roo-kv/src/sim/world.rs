//! One run: hosts, network and clients, the seconds in which everything fails, and the time to recover.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::client::Client;
use super::faults::Faults;
use super::history::History;
use super::host::{Crash, Host};
use super::invariants::Observer;
use super::network::Network;
use super::sabotage::Sabotage;
use crate::id::NodeId;
use crate::node::Node;
use crate::runtime::simulate;
use crate::view::State;
use crate::{Peers, Phase, Store};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// Four have a learner, if all is well.
    pub(super) hosts: usize,
    /// The last host starts when the others have founded their cluster.
    pub(super) late: bool,
    /// A member that is silent for this long is removed.
    pub(super) dead_after: Duration,
    /// How long faults happen.
    pub(super) faults_ms: u64,
    pub(super) sabotage: Option<Sabotage>,
    /// The only invariant that is looked at.
    pub(super) only: Option<&'static str>,
}

impl Setup {
    /// An honest run. What the cluster is like follows from the seed.
    pub(super) fn honest(seed: u64) -> Self {
        let (hosts, late) = match seed % 8 {
            0 => (5, false),
            1 | 2 => (4, true),
            3 => (4, false),
            _ => (3, false),
        };
        let dead_after = if seed % 5 == 1 { DEAD_SOON } else { DEAD_NEVER };
        // Most that happens at all happens soon: many short runs show more than few long ones.
        let faults_ms = if seed % 32 == 4 { 15_000 } else { 4000 };
        Self { seed, hosts, late, dead_after, faults_ms, sabotage: None, only: None }
    }

    /// The same in a world that is broken, looking for what must be noticed there.
    pub(super) fn sabotaged(seed: u64, sabotage: Sabotage, only: &'static str) -> Self {
        Self { sabotage: Some(sabotage), only: Some(only), faults_ms: 8000, ..Self::honest(seed) }
    }
}

const DEAD_SOON: Duration = Duration::from_secs(3);

/// Longer than any run.
const DEAD_NEVER: Duration = Duration::from_secs(600);

/// How long a healed cluster may take to be whole again.
const RECOVERY_MS: u64 = 60_000;

/// Disks that lie do so from when a cluster was founded.
const LIE_FROM_MS: u64 = 2000;

/// Between other kinds of sabotage.
const SABOTAGE_MS: u64 = 1500;

/// After a node has failed, it is started again by whoever looks after it.
const RESTART_MS: u64 = 500;

/// Between looks at the nodes.
const LOOK_MS: u64 = 5;
const SWEEP_MS: u64 = 100;

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) now: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) network: Network,
    pub(super) history: Arc<Mutex<History>>,
    peers: Peers,
    /// What a sabotaged host will be put back to.
    before: Option<Arc<State>>,
}

/// What a run was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) hash: (u32, u64),
    pub(super) operations: usize,
    pub(super) virtual_ms: u64,
    /// How often what went wrong.
    pub(super) faults: BTreeMap<&'static str, u64>,
}

/// Runs one seed in this thread.
///
/// # Errors
/// What was violated, and the last that happened before.
pub(super) fn run(setup: Setup) -> Result<Ran, String> {
    simulate(setup.seed);
    let mut world = World::new(setup);
    let (mut observer, mut faults) = (Observer::new(setup.only), Faults::default());
    let result = world.play(&mut observer, &mut faults);
    let result = result.and_then(|()| {
        let history = world.history.lock().unwrap_or_else(PoisonError::into_inner);
        observer.check(&history)
    });
    let operations = world.history.lock().unwrap_or_else(PoisonError::into_inner).operations.len();
    let hash = world.network.trace_hash();
    let ran = Ran { hash, operations, virtual_ms: world.now, faults: faults.counts };
    let story = world.network.last_lines();
    world.end();
    result.map(|()| ran).map_err(|violated| format!("{setup:?}\n{story}\nviolated: {violated}"))
}

impl World {
    fn new(setup: Setup) -> Self {
        let hosts: Vec<Host> = (0..setup.hosts).map(|number| Host::new(number, setup.sabotage)).collect();
        let peers = Peers::List(hosts.iter().map(|host| host.address.clone()).collect());
        Self { setup, now: 0, hosts, network: Network::default(), history: Arc::default(), peers, before: None }
    }

    fn play(&mut self, observer: &mut Observer, faults: &mut Faults) -> Result<(), String> {
        let late = usize::from(self.setup.late);
        for number in 0..self.hosts.len() - late {
            self.start(number);
        }
        if self.setup.late {
            faults.start_late(self.hosts.len() - 1, fastrand::u64(1500..3000));
        }
        while self.now < self.setup.faults_ms {
            self.sabotage();
            faults.happen(self);
            self.step(observer)?;
        }
        self.network.note(format_args!("all is healed"), &[]);
        faults.heal(self);
        let deadline = self.now + RECOVERY_MS;
        let mut agreed_since = None;
        // For a while longer, so that what clients do then is seen as well.
        while agreed_since.is_none_or(|since| self.now < since + 1000) {
            self.step(observer)?;
            if self.now.is_multiple_of(100) && agreed_since.is_none() && self.is_whole() {
                agreed_since = Some(self.now);
            }
            if self.now > deadline {
                observer.recovery(Err(format!("the cluster did not recover: {}", self.describe())))?;
                break;
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, number: usize) {
        let (history, network, sabotage) = (Arc::clone(&self.history), self.network.clone(), self.setup.sabotage);
        let client = move |store: Store| Client { store, host: number, history, network, sabotage };
        self.hosts[number].start(&self.network, self.peers.clone(), self.setup.dead_after, client);
    }

    pub(super) fn crash(&mut self, number: usize, crash: Crash) {
        self.hosts[number].crash(&self.network, crash);
    }

    fn step(&mut self, observer: &mut Observer) -> Result<(), String> {
        self.now += 1;
        self.network.advance_to(self.now);
        let count = self.hosts.len();
        for turn in 0..count {
            // Nobody is always the first.
            let number = (turn + usize::try_from(self.now).unwrap_or_default()) % count;
            self.hosts[number].step();
        }
        if self.now.is_multiple_of(SWEEP_MS) {
            self.network.sweep();
        }
        if self.now.is_multiple_of(RESTART_MS) {
            self.restart_failed();
        }
        if self.now.is_multiple_of(LOOK_MS) { observer.look(self) } else { Ok(()) }
    }

    /// Breaks what is to be broken.
    fn sabotage(&mut self) {
        match (self.setup.sabotage, self.now) {
            (Some(Sabotage::LyingDisks), LIE_FROM_MS) => self.hosts.iter().for_each(|host| host.disk.lie()),
            (Some(Sabotage::PrivateWrite), now) if now.is_multiple_of(SABOTAGE_MS) => {
                let Some(view) = self.hosts[0].node().map(|node| Arc::clone(&node.view)) else { return };
                let state = view.state();
                let mut records = state.records.clone();
                records.insert(b"x", b"nobody agreed to this");
                view.replace(records, state.meta.clone());
            }
            (Some(Sabotage::StateGoesBack), now) if now.is_multiple_of(SABOTAGE_MS) => {
                let Some(view) = self.hosts[0].node().map(|node| Arc::clone(&node.view)) else { return };
                if let Some(before) = self.before.replace(view.state()) {
                    view.replace(before.records.clone(), before.meta.clone());
                }
            }
            (Some(Sabotage::OldDisks), now) if now.is_multiple_of(SABOTAGE_MS) => {
                self.hosts.iter_mut().for_each(Host::keep_image);
            }
            (Some(Sabotage::PurgedTooFar), now) if now.is_multiple_of(SABOTAGE_MS) => self.hosts[0].purge_everything(),
            (Some(Sabotage::Panic), SABOTAGE_MS) => self.hosts[0].panic(),
            _ => {}
        }
    }

    fn restart_failed(&mut self) {
        for number in 0..self.hosts.len() {
            let Some(node) = self.hosts[number].node() else { continue };
            let phase = node.status.borrow().phase.clone();
            let is_excluded = node.excluded.load(Ordering::Relaxed);
            drop(node);
            let crash = match phase {
                Phase::Failed { reason } => {
                    self.network.note(format_args!("host {number} has failed: {reason}"), &[]);
                    if fastrand::bool() { Crash::Kill } else { Crash::Power }
                }
                // It may stay out until it is restarted.
                _ if is_excluded && fastrand::u8(..8) == 0 => Crash::Kill,
                _ => continue,
            };
            self.crash(number, crash);
            self.start(number);
        }
    }

    /// Every node is ready and has all that was committed.
    pub(super) fn is_whole(&self) -> bool {
        let ready = |host: &Host| host.ask(|node| node.status.borrow().is_ready()) == Some(true);
        let leads = |host: &&Host| host.ask(Node::leads_surely) == Some(true);
        self.hosts.iter().all(ready) && self.hosts.iter().filter(leads).count() == 1
    }

    /// Whether a majority of the voters is left without a host, and nobody is about to change who votes.
    pub(super) fn survives_without(&self, number: usize) -> bool {
        let is_leader = |host: &&Host| host.ask(Node::leads_surely) == Some(true);
        let Some(leader) = self.hosts.iter().find(is_leader).and_then(Host::node) else { return false };
        let metrics = leader.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<NodeId> = metrics.membership_config.voter_ids().map(NodeId).collect();
        let is_firm = metrics.membership_config.log_id() == metrics.committed_membership_config.log_id();
        let left = (0..self.hosts.len()).filter(|other| *other != number).filter_map(|other| self.node_id(other));
        let left = left.filter(|id| voters.contains(id)).count();
        leader.changing.try_lock().is_ok() && is_firm && left > voters.len() / 2
    }

    /// Who runs on a host.
    pub(super) fn node_id(&self, number: usize) -> Option<NodeId> {
        self.hosts[number].node().map(|node| node.id())
    }

    fn describe(&self) -> String {
        let states = self.hosts.iter().map(|host| match host.node() {
            Some(node) => format!("\nhost {}: {:?}", host.number, *node.status.borrow()),
            None => format!("\nhost {} is {}", host.number, if host.is_up() { "starting" } else { "down" }),
        });
        states.collect()
    }

    fn end(mut self) {
        for number in 0..self.hosts.len() {
            self.crash(number, Crash::Kill);
        }
        self.network.close();
    }
}
