//! Opening the data directory and putting a node together.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::SnapshotPolicy;
use openraft::async_runtime::WatchReceiver;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address_book::AddressBook;
use crate::config::{Config, Peers};
use crate::controller;
use crate::engine::Sled;
use crate::error::StartError;
use crate::formation::{Former, OwnAddress};
use crate::handler::Answering;
use crate::id::{NodeId, Revision};
use crate::identity::{self, Identity};
use crate::lease::LeaseClock;
use crate::node::Node;
use crate::peer::{Credentials, Links, Network, Spawner, serve};
use crate::raft::{LogIdForm, LogStore, Machine, Raft};
use crate::snapshot::Shelf;
use crate::state::Meta;
use crate::status::{Phase, Role, Status};
use crate::view::{View, read_meta};
use crate::writer::{Batcher, Sequencer};

const LOCK_FILE: &str = "lock";

/// Failover in well under two seconds, and yet no election because a busy machine was late.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: std::ops::Range<u64> = 300..600;

const SNAPSHOT_EVERY: u64 = 20_000;

/// A node that is not further behind than this catches up from the log instead of from a snapshot.
const LOG_KEPT: u64 = 50_000;

/// A snapshot may be large and the link slow.
const SNAPSHOT_TIMEOUT_MS: u64 = 600_000;

/// Between looks at things that no channel tells of, such as who is reachable.
const STATUS_PAUSE: Duration = Duration::from_millis(500);

/// Starts a node.
pub(crate) async fn start(config: Config) -> Result<Arc<Node>, StartError> {
    check_addresses(&config)?;
    let dir = config.data_dir.clone();
    let opened = blocking(move || Opened::new(&dir)).await?;
    let listener_address = config.listener.local_addr().map_err(|source| io_fault(&config.data_dir, source))?;
    let at_listener = |source| StartError::Listener { address: listener_address, source };
    config.listener.set_nonblocking(true).map_err(at_listener)?;
    let listener = TcpListener::from_std(config.listener).map_err(at_listener)?;

    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let node_id = opened.identity.node;
    let credentials = Credentials::new(&config.secret, node_id)?;
    let book = AddressBook::load(&config.data_dir);
    let links =
        Links::new(credentials.clone(), Arc::clone(&opened.identity), Arc::clone(&book), tracker.clone(), stop.clone());
    let own_address = OwnAddress::new(config.advertise, listener_address);
    let machine = Machine::new(Arc::clone(&opened.view), Arc::clone(&opened.shelf), opened.meta);
    let network = Network { links: Arc::clone(&links), node: node_id };
    let raft = Raft::new(node_id.0, Arc::new(raft_config()?), network, opened.log, machine)
        .await
        .map_err(|e| StartError::Raft { reason: e.to_string() })?;
    let node = Arc::new(Node {
        identity: opened.identity,
        book,
        links,
        batcher: Batcher::start(raft.clone(), &tracker),
        raft,
        view: opened.view,
        shelf: opened.shelf,
        status: watch::Sender::new(first_status(node_id, own_address.current())),
        own_address,
        sequencer: Sequencer::new(identity::random()?),
        leases: LeaseClock::default(),
        waiting_for: Mutex::new("a first look around".to_owned()),
        tracker: tracker.clone(),
        stop: stop.clone(),
        lock: Mutex::new(Some(opened.lock)),
    });

    let spawner = Spawner { tracker: tracker.clone(), stop };
    tracker.spawn(serve(listener, credentials.server, Answering::new(Arc::clone(&node)), spawner));
    tracker.spawn(Former::new(Arc::clone(&node), config.peers, config.start_delay).run());
    tracker.spawn(controller::run(Arc::clone(&node)));
    tracker.spawn(keep_status(Arc::clone(&node)));
    Ok(node)
}

struct Opened {
    lock: File,
    identity: Arc<Identity>,
    log: LogStore,
    shelf: Arc<Shelf>,
    view: Arc<View>,
    meta: Meta,
}

impl Opened {
    fn new(dir: &Path) -> Result<Self, StartError> {
        create_private(dir).map_err(|e| io_fault(dir, e))?;
        let lock = lock(dir)?;
        let identity = Identity::load_or_create(dir)?;
        let wal = dir.join("wal");
        let log = LogStore::open(&wal).map_err(|e| fault(&wal, e))?;
        let snapshots = dir.join("snapshots");
        let shelf = Arc::new(Shelf::open(&snapshots).map_err(|e| fault(&snapshots, e))?);
        let engine = open_engine(&dir.join("db"), &log)?;
        let (view, meta) = View::new(Box::new(engine)).map_err(|e| fault(dir, e))?;
        check_recoverable(dir, &log, &shelf, &meta)?;
        Ok(Self { lock, identity, log, shelf, view, meta })
    }
}

/// Creates the data directory, for this user alone: all that is below it is then out of reach of others. One that
/// exists stays as it is.
fn create_private(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        created => created,
    }
}

/// Opens the view; one that is broken, behind the log's beginning or ahead of its end is begun anew, and openraft fills
/// it from snapshot and log.
fn open_engine(dir: &Path, log: &LogStore) -> Result<Sled, StartError> {
    let (purged, last) = log.bounds();
    let usable = Sled::open(dir).and_then(|engine| {
        let applied = read_meta(&engine)?.and_then(|meta| meta.applied);
        let fits = applied >= purged && applied <= last;
        if fits { Ok(engine) } else { Err(io::Error::other("it does not fit the log")) }
    });
    match usable {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "the state is rebuilt from snapshot and log");
            fs::remove_dir_all(dir).map_err(|e| io_fault(dir, e))?;
            Sled::open(dir).map_err(|e| fault(dir, e))
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

fn raft_config() -> Result<openraft::Config, StartError> {
    let config = openraft::Config {
        cluster_name: "roo".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.start,
        election_timeout_max: ELECTION_MS.end,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: 512,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: LOG_KEPT,
        replication_lag_threshold: LOG_KEPT + SNAPSHOT_EVERY,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..openraft::Config::default()
    };
    config.validate().map_err(|e| StartError::Raft { reason: e.to_string() })
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
        address,
        started: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Publishes the status whenever something in it changed.
async fn keep_status(node: Arc<Node>) {
    let mut metrics = node.raft.metrics();
    let mut progress = node.view.progress();
    loop {
        // Outside of the watch's lock, which everybody who asks for the status takes; nobody else writes it.
        let before = node.status.borrow().clone();
        let now = node.describe(&before);
        if before != now {
            node.status.send_replace(now);
        }
        tokio::select! {
            // Raft's own end shows in the metrics it leaves behind.
            changed = metrics.changed() => if changed.is_err() { tokio::time::sleep(STATUS_PAUSE).await },
            // It never ends before this task does.
            _ = progress.changed() => {}
            () = tokio::time::sleep(STATUS_PAUSE) => {}
            () = node.stop.cancelled() => return,
        }
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
