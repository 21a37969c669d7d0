//! One run: hosts, network and clients, the seconds in which everything fails, and the time to recover.

use std::sync::{Arc, Mutex, PoisonError};

use super::client::{Client, Reads};
use super::faults::Faults;
use super::history::History;
use super::host::{Crash, Host};
use super::invariants::{self, Observer};
use super::network::Network;
use crate::node::Node;
use crate::runtime::simulate;
use crate::{Peers, Phase, Store};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) hosts: usize,
    /// How long faults happen.
    pub(super) faults_ms: u64,
    pub(super) reads: Reads,
    /// The disks say that something is synced before it is.
    pub(super) disks_lie: bool,
}

impl Setup {
    /// An honest run; three or five hosts by the seed.
    pub(super) fn honest(seed: u64) -> Self {
        let hosts = if seed % 4 == 3 { 5 } else { 3 };
        Self { seed, hosts, faults_ms: 15_000, reads: Reads::Honest, disks_lie: false }
    }
}

/// How long a healed cluster may take to be whole again.
const RECOVERY_MS: u64 = 60_000;

/// Disks that lie do so from when a cluster was founded.
const LIE_FROM_MS: u64 = 2000;

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
}

/// What a run was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) hash: (u32, u64),
    pub(super) operations: usize,
    pub(super) virtual_ms: u64,
}

/// Runs one seed in this thread.
///
/// # Errors
/// What was violated, and the last that happened before.
pub(super) fn run(setup: Setup) -> Result<Ran, String> {
    simulate(setup.seed);
    let mut world = World::new(setup);
    let mut observer = Observer::default();
    let result = world.play(&mut observer);
    let result = result.and_then(|()| {
        let history = world.history.lock().unwrap_or_else(PoisonError::into_inner);
        invariants::check(&history)
    });
    let operations = world.history.lock().unwrap_or_else(PoisonError::into_inner).operations.len();
    let ran = Ran { hash: world.network.trace_hash(), operations, virtual_ms: world.now };
    let story = world.network.last_lines();
    world.end();
    result.map(|()| ran).map_err(|violated| format!("{setup:?}\n{story}\nviolated: {violated}"))
}

impl World {
    fn new(setup: Setup) -> Self {
        let hosts: Vec<Host> = (0..setup.hosts).map(Host::new).collect();
        let peers = Peers::List(hosts.iter().map(|host| host.address.clone()).collect());
        Self { setup, now: 0, hosts, network: Network::default(), history: Arc::default(), peers }
    }

    fn play(&mut self, observer: &mut Observer) -> Result<(), String> {
        for number in 0..self.hosts.len() {
            self.start(number);
        }
        let mut faults = Faults::default();
        while self.now < self.setup.faults_ms {
            if self.setup.disks_lie && self.now == LIE_FROM_MS {
                self.hosts.iter().for_each(|host| host.disk.lie());
            }
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
                return Err(format!("the cluster did not recover: {}", self.describe()));
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, number: usize) {
        let (history, network, reads) = (Arc::clone(&self.history), self.network.clone(), self.setup.reads);
        let client = move |store: Store| Client { store, host: number, history, network, reads };
        self.hosts[number].start(&self.network, self.peers.clone(), client);
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

    fn restart_failed(&mut self) {
        for number in 0..self.hosts.len() {
            let Some(node) = self.hosts[number].node() else { continue };
            let phase = node.status.borrow().phase.clone();
            drop(node);
            if let Phase::Failed { reason } = phase {
                self.network.note(format_args!("host {number} has failed: {reason}"), &[]);
                self.crash(number, Crash::Kill);
                self.start(number);
            }
        }
    }

    /// Every node is ready and has all that was committed.
    fn is_whole(&self) -> bool {
        let ready = |host: &Host| host.ask(|node| node.status.borrow().is_ready()) == Some(true);
        let leads = |host: &&Host| host.ask(Node::leads_surely) == Some(true);
        self.hosts.iter().all(ready) && self.hosts.iter().filter(leads).count() == 1
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
