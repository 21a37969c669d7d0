//! Opening the data directory and putting a node together.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::SnapshotPolicy;
use openraft::async_runtime::WatchReceiver;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address_book::AddressBook;
use crate::attest::Kinship;
use crate::config::{Config, Peers, VotersMax};
use crate::controller;
use crate::disk::{Disk, RealDisk};
use crate::encounter::Encounters;
use crate::engine::Sled;
use crate::error::StartError;
use crate::failover::Callers;
use crate::formation::{Clearance, Former, OwnAddress};
use crate::handler::Answering;
use crate::history_age;
use crate::id::{NodeId, Revision};
use crate::identity::{Errand, Identity, Standing};
use crate::keyring::Keyring;
use crate::lease::LeaseClock;
use crate::membership::rescue;
use crate::node::Node;
use crate::peer::{Credentials, Dial, Links, Network, Spawner, Strangers, TlsDialer, serve};
use crate::persister::{self, Persister, Persisting};
use crate::raft::{LogIdForm, LogStore, Machine, Raft};
use crate::reader;
use crate::reset;
use crate::room;
use crate::rounds::Rounds;
use crate::runtime::random;
use crate::snapshot::{LogMeter, Shelf};
use crate::state::{Meta, Tree};
use crate::status::{Phase, Role, Status};
use crate::trim;
use crate::view::View;
use crate::wal::Driver;
use crate::writer::{Batcher, LeaderSink, LogSink, Sequencer};

const LOCK_FILE: &str = "lock";

/// Failover in well under two seconds, and yet no election because a busy machine was late.
const HEARTBEAT_MS: u64 = 100;
pub(crate) const ELECTION_MS: std::ops::Range<u64> = 300..600;

/// A snapshot may be large and the link slow.
const SNAPSHOT_TIMEOUT_MS: u64 = 600_000;

/// Between looks at things that no channel tells of, such as who is reachable.
const STATUS_PAUSE: Duration = Duration::from_millis(500);

/// Between two descriptions at least: under load something changes with every entry of the log.
const STATUS_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Starts a node, and hands back what it proves itself with.
pub(crate) async fn start(config: Config) -> Result<(Arc<Node>, Arc<Keyring>), StartError> {
    check_addresses(&config)?;
    let dir = config.data_dir.clone();
    let mut opened = blocking(move || Opened::new(Arc::new(RealDisk), &dir)).await?;
    if opened.identity.errand() == Some(Errand::Reset) {
        opened = opened.reset(&config.data_dir, config.is_negligible).await?;
    }
    let listener_address = config.listener.local_addr().map_err(|source| io_fault(&config.data_dir, source))?;
    let at_listener = |source| StartError::Listener { address: listener_address, source };
    config.listener.set_nonblocking(true).map_err(at_listener)?;
    let listener = TcpListener::from_std(config.listener).map_err(at_listener)?;

    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let keyring = Keyring::open(Arc::new(RealDisk), &config.data_dir, config.secret)?;
    let credentials = Credentials::new(Arc::clone(&keyring), opened.identity.node)?;
    let strangers = Arc::new(Strangers::default());
    let dialer = TlsDialer {
        credentials: credentials.clone(),
        strangers: Arc::clone(&strangers),
        tracker: tracker.clone(),
        stop: stop.clone(),
    };
    let spawner = Spawner { tracker: tracker.clone(), stop: stop.clone() };
    let clearance = match &config.orchestrator {
        Some(_) => Clearance::Wait("the orchestrator to tell which tasks belong together".to_owned()),
        None => Clearance::Free { expect: config.expect },
    };
    let port = match &config.peers {
        Peers::Dns { port, .. } => *port,
        Peers::Alone | Peers::List(_) => listener_address.port(),
    };
    let around = Around {
        data_dir: config.data_dir,
        dead_after: config.dead_after,
        voters_max: config.voters_max,
        is_negligible: config.is_negligible,
        dialer: Box::new(dialer),
        own_address: OwnAddress::new(config.advertise, listener_address),
        peers: config.peers,
        start_delay: config.start_delay,
        clearance,
        raft: raft_config(),
        tracker: tracker.clone(),
        stop: stop.clone(),
    };
    let node = assemble(opened, around).await?;
    let door = match config.orchestrator {
        Some(orchestrator) => {
            let kinship = Kinship { node: Arc::clone(&node), keyring: Arc::clone(&keyring), orchestrator };
            Some(kinship.begin(port, config.expect)?)
        }
        None => None,
    };
    let answering = Answering::new(Arc::clone(&node));
    tracker.spawn(serve(listener, credentials.clone(), door, strangers, answering, spawner));
    tracker.spawn(credentials.keep(stop));
    Ok((node, keyring))
}

/// What a node is put into.
pub(crate) struct Around {
    pub(crate) data_dir: PathBuf,
    pub(crate) dead_after: Duration,
    pub(crate) voters_max: VotersMax,
    pub(crate) is_negligible: fn(&str) -> bool,
    pub(crate) dialer: Box<dyn Dial>,
    pub(crate) own_address: OwnAddress,
    pub(crate) peers: Peers,
    pub(crate) start_delay: Duration,
    pub(crate) clearance: Clearance,
    pub(crate) raft: openraft::Config,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Puts a node together and starts its tasks. It looks for others, and waits to be asked through [`Answering`].
pub(crate) async fn assemble(mut opened: Opened, around: Around) -> Result<Arc<Node>, StartError> {
    let Around { dialer, own_address, peers, start_delay, clearance, raft: config, tracker, stop, .. } = around;
    let node_id = opened.identity.node;
    let config = config.validate().map_err(|e| StartError::Raft { reason: e.to_string() })?;
    let links = Links::new(dialer, Arc::clone(&opened.identity), Arc::clone(&opened.book));
    let finished = rescue::finish(&opened.identity, &mut opened.log, own_address.current()).await;
    finished.map_err(|source| io_fault(&around.data_dir, source))?;
    let meter = Arc::new(opened.meter);
    let machine = Machine::new(Arc::clone(&opened.view), Arc::clone(&opened.shelf), Arc::clone(&meter));
    let network = Network { links: Arc::clone(&links), node: node_id };
    let raft = Raft::new(node_id.0, Arc::new(config), network, opened.log.clone(), machine)
        .await
        .map_err(|e| StartError::Raft { reason: e.to_string() })?;
    lead_alone(&raft, node_id).await;
    let forward = LeaderSink { raft: raft.clone(), links: Arc::clone(&links), own: node_id };
    let origin = random().map_err(|e| StartError::Raft { reason: e.to_string() })?;
    let (reads, readers) = Rounds::new();
    let node = Arc::new(Node {
        data_dir: around.data_dir,
        identity: opened.identity,
        book: opened.book,
        links,
        batcher: Batcher::start(LogSink { raft: raft.clone() }, &tracker, &stop),
        forwarder: Batcher::start(forward, &tracker, &stop),
        raft,
        log: opened.log,
        view: opened.view,
        persisting: opened.persisting,
        shelf: opened.shelf,
        status: watch::Sender::new(first_status(node_id, own_address.current())),
        own_address,
        sequencer: Sequencer::new(origin),
        leases: LeaseClock::default(),
        dead_after: Some(around.dead_after).filter(|time| !time.is_zero()),
        voters_max: around.voters_max,
        changing: tokio::sync::Mutex::default(),
        encounters: Encounters::default(),
        callers: Callers::default(),
        excluded: AtomicBool::default(),
        settled: AtomicBool::default(),
        ending: OnceLock::new(),
        reads,
        waiting_for: Mutex::new("a first look around".to_owned()),
        clearance: Mutex::new(clearance),
        tracker: tracker.clone(),
        stop,
        lock: Mutex::new(opened.lock),
    });
    tracker.spawn(Former::new(Arc::clone(&node), peers, start_delay, around.is_negligible).run());
    tracker.spawn(controller::run(Arc::clone(&node)));
    tracker.spawn(trim::run(Arc::clone(&node), meter));
    tracker.spawn(room::watch(Arc::clone(&node)));
    tracker.spawn(history_age::run(Arc::clone(&node)));
    tracker.spawn(reader::run(Arc::clone(&node), readers));
    tracker.spawn(keep_status(Arc::clone(&node)));
    Ok(node)
}

/// The only voter leads at once: there is nobody for whom it would have to wait before it calls an election.
async fn lead_alone(raft: &Raft, node: NodeId) {
    let alone = raft.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([node.0]));
    if alone.await.unwrap_or(false) {
        // It fails if the engine has ended, which the node's phase will tell.
        drop(raft.trigger().elect(false).await);
    }
}

/// What a node has on its disk.
pub(crate) struct Opened {
    pub(crate) lock: Option<File>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) log: LogStore,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) view: Arc<View>,
    pub(crate) persisting: Persisting,
    pub(crate) meter: LogMeter,
}

impl Opened {
    fn new(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, StartError> {
        create_private(dir).map_err(|e| io_fault(dir, e))?;
        let lock = lock(dir)?;
        let identity = Identity::load_or_create(Arc::clone(&disk), dir)?;
        if let Standing::Superseded { cluster, by } = identity.standing() {
            return Err(StartError::Superseded { path: dir.to_owned(), cluster, by });
        }
        let wal = dir.join("wal");
        let log = LogStore::open(Arc::clone(&disk), &wal, Driver::Thread)?;
        let snapshots = dir.join("snapshots");
        let shelf = Arc::new(Shelf::open(Arc::clone(&disk), &snapshots).map_err(|e| fault(&snapshots, e))?);
        let (engine, records, meta) = open_engine(&dir.join("db"), &log)?;
        check_recoverable(dir, &log, &shelf, &meta)?;
        let log_bytes = bytes_in(&*disk, &wal).map_err(|e| io_fault(&wal, e))?;
        let meter = LogMeter::new(meta.applied.map_or(0, |id| id.index), log_bytes);
        let view = View::new(records, meta);
        let last = log.bounds().1.map(|id| id.index);
        let persister = Persister::new(Arc::clone(&view), Box::new(engine)).after(last);
        let persisting = persister.start().map_err(|e| io_fault(dir, e))?;
        let book = AddressBook::load(disk, dir);
        Ok(Self { lock: Some(lock), identity, book, log, shelf, view, persisting, meter })
    }

    /// Gives the cluster of this node alone up, if nobody would miss it.
    async fn reset(mut self, dir: &Path, is_negligible: fn(&str) -> bool) -> Result<Self, StartError> {
        let due = reset::is_due(&self.identity, &mut self.log, &self.view, is_negligible).await;
        let due = due.map_err(|e| io_fault(dir, e))?;
        let dir = dir.to_owned();
        blocking(move || {
            if !due {
                tracing::warn!("this node's cluster holds something by now, so it is not given up");
                self.identity.cancel_errand().map_err(|e| io_fault(&dir, e))?;
                return Ok(self);
            }
            self.persisting.finish().map_err(|e| io_fault(&dir, e))?;
            let Self { lock, identity, log, shelf, view, persisting, .. } = self;
            drop((log, shelf, view, persisting));
            reset::forget(&dir, &identity).map_err(|e| io_fault(&dir, e))?;
            drop(lock);
            Self::new(Arc::new(RealDisk), &dir)
        })
        .await
    }
}

/// The bytes of all files in a directory.
fn bytes_in(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    disk.list(dir)?.iter().map(|path| disk.open(path)?.len()).sum()
}

/// Creates the data directory, for this user alone: all that is below it is then out of reach of others. One that
/// exists stays as it is.
fn create_private(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        // Or a power cut could take the whole directory away.
        Ok(()) => RealDisk.sync_dir(parent),
    }
}

/// Reads the copy of the state on disk; one that is broken, behind the log's beginning or ahead of its end is thrown
/// away, and openraft fills the state from snapshot and log.
fn open_engine(dir: &Path, log: &LogStore) -> Result<(Sled, Tree, Meta), StartError> {
    let (purged, last) = log.bounds();
    let usable = Sled::open(dir).and_then(|engine| {
        let (records, meta) = persister::load(&engine)?.unwrap_or_default();
        let fits = meta.applied >= purged && meta.applied <= last;
        if fits { Ok((engine, records, meta)) } else { Err(io::Error::other("it does not fit the log")) }
    });
    match usable {
        Ok(usable) => Ok(usable),
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "the state is rebuilt from snapshot and log");
            fs::remove_dir_all(dir).map_err(|e| io_fault(dir, e))?;
            let engine = Sled::open(dir).map_err(|e| fault(dir, e))?;
            Ok((engine, Tree::default(), Meta::default()))
        }
    }
}

fn check_recoverable(dir: &Path, log: &LogStore, shelf: &Shelf, meta: &Meta) -> Result<(), StartError> {
    let purged: Option<LogIdForm> = log.bounds().0;
    let snapshot = shelf.newest().and_then(|(header, _)| header.meta.applied);
    match purged {
        Some(purged) if meta.applied.max(snapshot) < Some(purged) => {
            Err(StartError::Unrecoverable { path: dir.to_owned(), log_starts: purged.index })
        }
        _ => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| io_fault(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Locked { path }),
        Err(fs::TryLockError::Error(source)) => Err(StartError::Io { path, source }),
    }
}

fn check_addresses(config: &Config) -> Result<(), StartError> {
    let listed: &[String] = match &config.peers {
        Peers::List(list) => list,
        Peers::Alone | Peers::Dns { .. } => &[],
    };
    for address in listed.iter().chain(&config.advertise) {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(StartError::BadAddress { address: address.clone() });
        }
    }
    Ok(())
}

pub(crate) fn raft_config() -> openraft::Config {
    openraft::Config {
        cluster_name: "roo".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.start,
        election_timeout_max: ELECTION_MS.end,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: 512,
        // Both are decided by size, in `trim`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..openraft::Config::default()
    }
}

fn first_status(node_id: NodeId, address: String) -> Status {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Status {
        node_id,
        cluster_id: None,
        phase: Phase::Forming { waiting_for: "a first look around".to_owned() },
        role: Role::Learner,
        leader: None,
        term: 0,
        last_log: None,
        committed: None,
        applied: None,
        snapshot: None,
        revision: Revision(0),
        members: Vec::new(),
        disk_full: false,
        address,
        started: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Publishes the status whenever something in it changed.
async fn keep_status(node: Arc<Node>) {
    let mut metrics = node.raft.metrics();
    let mut progress = node.view.progress();
    loop {
        let described = Instant::now();
        // Outside of the watch's lock, which everybody who asks for the status takes; nobody else writes it.
        let before = node.status.borrow().clone();
        let now = node.describe(&before);
        if before != now {
            node.status.send_replace(now);
        }
        tokio::select! {
            biased;
            () = node.stop.cancelled() => return,
            // Raft's own end shows in the metrics it leaves behind.
            changed = WatchReceiver::changed(&mut metrics) => if changed.is_err() { tokio::time::sleep(STATUS_PAUSE).await },
            // It never ends before this task does.
            _ = progress.changed() => {}
            () = tokio::time::sleep(STATUS_PAUSE) => {}
        }
        tokio::time::sleep_until(described + STATUS_PAUSE_MIN).await;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(StartError::Raft { reason: e.to_string() }),
    }
}

fn fault(path: &Path, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            StartError::Damaged { path: path.to_owned(), fault: error.to_string() }
        }
        _ => io_fault(path, error),
    }
}

fn io_fault(path: &Path, source: io::Error) -> StartError {
    StartError::Io { path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_data_directory_is_for_this_user_alone() {
        let parent = tempfile::tempdir().unwrap();
        let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o777;
        let new = parent.path().join("a/b");
        create_private(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o750)).unwrap();
        create_private(&new).unwrap();
        assert_eq!(mode(&new), 0o750);
    }
}
