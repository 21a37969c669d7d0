//! A machine: a disk, a clock, and the node that runs on it, in a runtime of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftLogStorage;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::network::{Dialer, Network, Port};
use super::sabotage::Sabotage;
use crate::address_book::AddressBook;
use crate::disk::{Cut, Disk, SimulatedDisk};
use crate::engine::{Engine, Memory};
use crate::formation::{Clearance, OwnAddress};
use crate::handler::Answering;
use crate::identity::Identity;
use crate::node::Node;
use crate::persister::{self, Persister, Persisting};
use crate::raft::{LogId, LogIdForm, LogStore};
use crate::runtime::set_disk_time;
use crate::snapshot::{LogMeter, Shelf};
use crate::start::{Around, Opened, assemble, raft_config};
use crate::view::View;
use crate::wal::Driver;
use crate::{Keyring, MemberChange, Peers, Secret, Store, VotersMax};

const DATA_DIR: &str = "/data";

const START_DELAY: Duration = Duration::from_millis(200);

/// How long a healthy disk takes for something, at most.
pub(super) const DISK_MS: u64 = 3;

/// How a host goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// What the program wrote stays, and peers are told that it has gone.
    Kill,
    /// What was not synced is lost in part, and peers hear nothing.
    Power,
    /// Peers hear nothing, and the machine comes back with an empty disk.
    LostDisk,
}

pub(super) struct Host {
    pub(super) number: usize,
    pub(super) address: String,
    pub(super) disk: SimulatedDisk,
    pub(super) disk_ms: u64,
    copy: Memory,
    runtime: Option<Runtime>,
    node: Arc<Mutex<Option<Arc<Node>>>>,
    /// How fast its clock goes, in thousandths.
    rate: u64,
    owed: u64,
    paused_ms: u64,
    pub(super) frozen: bool,
    /// A call of its disk has failed since the program started, or will.
    pub(super) disk_fails: bool,
    /// What a sabotaged disk comes back as.
    image: Option<SimulatedDisk>,
}

impl Host {
    pub(super) fn new(number: usize, sabotage: Option<Sabotage>) -> Self {
        let honest = fastrand::u64(980..=1020);
        let rate = if sabotage == Some(Sabotage::FastClocks) { 2 * honest } else { honest };
        Self {
            number,
            address: format!("10.0.0.{}:6300", number + 1),
            disk: SimulatedDisk::new(),
            disk_ms: DISK_MS,
            copy: Memory::default(),
            runtime: None,
            node: Arc::default(),
            rate,
            owed: 0,
            paused_ms: 0,
            frozen: false,
            disk_fails: false,
            image: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    /// The node, once it has started.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the node something that depends on its clock; outside of its runtime there is only the real one.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Node) -> T) -> Option<T> {
        let _inside = self.runtime.as_ref()?.enter();
        Some(ask(&*self.node()?))
    }

    /// Starts the program.
    pub(super) fn start(
        &mut self,
        network: &Network,
        peers: Peers,
        dead_after: Duration,
        client: impl FnOnce(Store) -> Client + Send + 'static,
    ) {
        network.note(format_args!("host {} starts", self.number), &[]);
        network.forget(self.number, &self.address);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime can be made");
        set_disk_time(self.disk_ms);
        let (opened, persister) = {
            // The log's writer is a task.
            let _inside = runtime.enter();
            self.open()
        };
        let dialer = Dialer {
            network: network.clone(),
            host: self.number,
            node: opened.identity.node,
            ip: self.address.parse::<std::net::SocketAddr>().expect("it is an address").ip(),
        };
        let listener = self.address.parse().expect("it is an address");
        let keyring = self.keyring();
        let around = Around {
            data_dir: PathBuf::from(DATA_DIR),
            dead_after,
            voters_max: VotersMax::default(),
            is_negligible: |_| false,
            dialer: Box::new(dialer),
            own_address: OwnAddress::new(Some(self.address.clone()), listener),
            peers,
            start_delay: START_DELAY,
            clearance: Clearance::Free { expect: 0 },
            raft: raft_config(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let (place, network, number) = (Arc::clone(&self.node), network.clone(), self.number);
        let (address, handle) = (self.address.clone(), runtime.handle().clone());
        runtime.spawn(async move {
            let node = assemble(opened, around).await.expect("a node starts on what it wrote");
            let id = node.id();
            network.note(format_args!("host {number} is node {id}"), &[]);
            let handler = Answering::new(Arc::clone(&node));
            network.listen(&address, Port { host: number, node: id, handler, runtime: handle });
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&node));
            tokio::spawn(save_now_and_then(persister));
            tokio::spawn(trim_now_and_then(Arc::clone(&node)));
            client(Store::of(node, keyring)).start();
        });
        self.runtime = Some(runtime);
    }

    fn keyring(&self) -> Arc<Keyring> {
        let secret = Secret::from_text("a secret of the simulation").expect("it is long enough");
        Keyring::open(Arc::new(self.disk.clone()), &PathBuf::from(DATA_DIR), secret).expect("a keyring can be read")
    }

    /// What a start finds on the disk.
    fn open(&self) -> (Opened, Persister) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let dir = PathBuf::from(DATA_DIR);
        disk.create_dir(&dir).expect("a directory needs no room");
        disk.sync_dir(&PathBuf::from("/")).expect("a disk without faults syncs");
        let identity = Identity::load_or_create(Arc::clone(&disk), &dir).expect("the identity survives everything");
        let log =
            LogStore::open(Arc::clone(&disk), &dir.join("wal"), Driver::Task).expect("the log survives everything");
        let shelf = Shelf::open(Arc::clone(&disk), &dir.join("snapshots")).expect("snapshots survive everything");
        let (shelf, book) = (Arc::new(shelf), AddressBook::load(disk, &dir));
        let (purged, last) = log.bounds();
        let copied = persister::load(&self.copy).expect("the copy can be read");
        let fits = |applied: Option<LogIdForm>| applied >= purged && applied <= last;
        let (records, meta) = copied.filter(|(_, meta)| fits(meta.applied)).unwrap_or_else(|| {
            self.copy.clone().clear().expect("a map can be emptied");
            Default::default()
        });
        let snapshot = shelf.newest().and_then(|(header, _)| header.meta.applied);
        assert!(meta.applied.max(snapshot) >= purged, "host {}: the log was purged above {snapshot:?}", self.number);
        let applied = meta.applied;
        let view = View::new(records, meta);
        let persister = Persister::new(Arc::clone(&view), Box::new(self.copy.clone()));
        let persisting = Persisting::without_thread(Arc::clone(&view));
        let meter = LogMeter::new(applied.map_or(0, |id| id.index), 0);
        (Opened { lock: None, identity, book, log, shelf, view, persisting, meter }, persister)
    }

    /// Lets its clock go on by about a millisecond.
    pub(super) fn step(&mut self) {
        let Some(runtime) = &self.runtime else { return };
        set_disk_time(self.disk_ms);
        if self.frozen {
            self.paused_ms += 1;
            return;
        }
        if self.paused_ms > 0 {
            // It does not notice that it slept, but its clock went on.
            let slept = Duration::from_millis(std::mem::take(&mut self.paused_ms));
            runtime.block_on(async { tokio::time::advance(slept).await });
        }
        self.owed += self.rate;
        while self.owed >= 1000 {
            self.owed -= 1000;
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        }
    }

    /// Goes down at once.
    pub(super) fn crash(&mut self, network: &Network, crash: Crash) {
        let Some(runtime) = self.runtime.take() else { return };
        network.note(format_args!("host {} goes down: {crash:?}", self.number), &[]);
        network.stop(self.number, &self.address, crash == Crash::Kill);
        self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(runtime);
        self.frozen = false;
        self.paused_ms = 0;
        // What the old program wrote after this moment, if anything, it wrote to nobody's disk.
        self.disk = match crash {
            Crash::Kill => self.disk.settled(),
            Crash::Power => self.disk.after_power_cut(Cut::Random(fastrand::u64(..))),
            Crash::LostDisk => SimulatedDisk::new(),
        };
        if let Some(image) = self.image.take() {
            self.disk = image;
            self.copy = Memory::default();
        }
        if crash == Crash::LostDisk {
            self.copy = Memory::default();
        }
        self.disk_fails = false;
    }

    /// Has something in the program panic.
    pub(super) fn panic(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async { panic!("it was told to") });
        }
    }

    /// Has it come back from its next crash with the disk as it is now.
    pub(super) fn keep_image(&mut self) {
        self.image = Some(self.disk.settled());
    }

    /// Has its whole log purged.
    pub(super) fn purge_everything(&self) {
        let (Some(runtime), Some(node)) = (&self.runtime, self.node()) else { return };
        let mut log = node.log.clone();
        runtime.spawn(async move {
            if let Some(last) = log.bounds().1 {
                drop(log.purge(LogId::from(last)).await);
            }
        });
    }

    /// Has somebody ask its node to change the membership; false if there is none.
    pub(super) fn change(&self, change: MemberChange) -> bool {
        let (Some(runtime), Some(node)) = (&self.runtime, self.node()) else { return false };
        // What does not work is refused, or tried until somebody asks no longer.
        runtime.spawn(async move { drop(node.change_membership(change).await) });
        true
    }

    /// Asks the program to stop, as for an update.
    pub(super) fn stop(&self, network: &Network) {
        let (Some(runtime), Some(node)) = (&self.runtime, self.node()) else { return };
        network.note(format_args!("host {} is told to stop", self.number), &[]);
        let keyring = self.keyring();
        runtime.spawn(async move { Store::of(node, keyring).shutdown().await });
    }
}

/// The persister's thread, in a simulation.
async fn save_now_and_then(mut persister: Persister) {
    loop {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..3000))).await;
        persister.save().expect("a copy in memory can be written");
    }
}

/// Purged logs and installed snapshots happen far more often than by size.
async fn trim_now_and_then(node: Arc<Node>) {
    loop {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..3000))).await;
        // They fail while the node stops.
        drop(node.raft.trigger().snapshot().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let snapshot = node.raft.metrics().borrow_watched().snapshot.as_ref().map(|id| id.index);
        // A leader that purges what it streamed from reads in vain once openraft opens the stream anew: it begins where it
        // began, not where it is.
        if node.leading().is_none()
            && let Some(upto) = snapshot.and_then(|index| index.checked_sub(fastrand::u64(..20)))
        {
            drop(node.raft.trigger().purge_log(upto).await);
        }
    }
}
