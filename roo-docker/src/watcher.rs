//! The loop that follows an engine and publishes snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, pin_mut};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    claims,
    client::{Engine, EngineError},
    images::Images,
    snapshot::{Problem, Service, Snapshot, State},
    subnets::Subnets,
    tasks::Tasks,
    tls::Tls,
};

/// What to follow and how eagerly.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine: `unix:///path`, a plain path, `tcp://host:port`, `http://host:port` or `https://host:port`;
    /// `None` means `/var/run/docker.sock`.
    pub host: Option<String>,
    /// How TLS is spoken to it, if it is.
    pub tls: Option<Tls>,
    /// Services are read at once after an event, but not more often than this. Default 100 ms.
    pub debounce: Duration,
    /// How often tasks are read while some of them come or go: there are no events of tasks. Swarm tells that a task is
    /// to stop two seconds before it does so. Default 150 ms.
    pub tasks_moving: Duration,
    /// How often otherwise. Default 1 s.
    pub tasks_quiet: Duration,
    /// The networks in which tasks can be reached.
    pub subnets: Subnets,
    /// Services are read again after this long without events, in case one was missed. Default 30 s.
    pub resync: Duration,
    /// An engine that does not answer a ping this often is given up and dialled anew. Default 15 s.
    pub ping: Duration,
    /// The first pause after a failure; doubles up to `resync`. Default 250 ms.
    pub retry: Duration,
    /// The pause before an engine that manages no swarm is asked again. Default 10 s.
    pub not_manager_retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            tls: None,
            debounce: Duration::from_millis(100),
            tasks_moving: Duration::from_millis(150),
            tasks_quiet: Duration::from_secs(1),
            subnets: Subnets::System,
            resync: Duration::from_secs(30),
            ping: Duration::from_secs(15),
            retry: Duration::from_millis(250),
            not_manager_retry: Duration::from_secs(10),
        }
    }
}

/// A running watch.
#[derive(Debug)]
pub struct Watcher {
    /// The latest snapshot; [`State::Connecting`] until the engine was heard for the first time.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Asks for services to be read now.
    pub handle: Handle,
    /// Ends after `shutdown` is cancelled, and otherwise never.
    pub task: JoinHandle<()>,
}

/// Follows the engine until `shutdown` is cancelled. Must be called inside a tokio runtime.
///
/// Never fails: an engine that can't be reached, now or later, is a [`State`] and is retried for ever.
/// A snapshot is published after each complete read of the services and whenever the state changes, so
/// a receiver should compare before it acts.
pub fn watch(config: Config, shutdown: CancellationToken) -> Watcher {
    let (publisher, snapshots) = watch::channel(Arc::new(Snapshot::connecting()));
    let (requests, rescans) = mpsc::channel(RESCANS_MAX);
    let (followed, also) = watch::channel(BTreeSet::new());
    let pilot = Pilot {
        backoff: Backoff::new(config.retry.min(config.resync), config.resync),
        config,
        publisher,
        rescans,
        waiting: Vec::new(),
        images: Images::default(),
        also,
        seen: Seen::default(),
        tasks: Tasks::default(),
        moved_at: Instant::now(),
    };
    Watcher {
        snapshots,
        handle: Handle { requests, followed },
        task: tokio::spawn(async move {
            // Dropping the loop at any await is fine: all it holds is connections for reading.
            shutdown.run_until_cancelled(pilot.run()).await;
        }),
    }
}

/// Asks a running watch for a fresh look. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<oneshot::Sender<Arc<Snapshot>>>,
    followed: watch::Sender<BTreeSet<String>>,
}

impl Handle {
    /// Has the tasks of these services read too, which have no labels but are led to: names in lower case. Whatever is
    /// none is passed over. Replaces what was given before.
    pub fn follow(&self, services: BTreeSet<String>) {
        self.followed.send_if_modified(|followed| {
            let changed = *followed != services;
            *followed = services;
            changed
        });
    }

    /// Reads services now, or retries the engine now if it is away, and returns the outcome. Look at its
    /// `state`: an engine that is gone or manages nothing is told there. Takes about 20 s at most, and
    /// milliseconds as a rule.
    /// Dropping the future does not take the request back.
    pub async fn rescan(&self) -> Result<Arc<Snapshot>, RescanError> {
        let (reply, outcome) = oneshot::channel();
        self.requests.send(reply).await.map_err(|_| RescanError)?;
        outcome.await.map_err(|_| RescanError)
    }
}

/// The watch has ended, so there is nobody to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Docker watch has stopped because the node is shutting down")]
pub struct RescanError;

/// Everything the loop owns.
struct Pilot {
    config: Config,
    backoff: Backoff,
    publisher: watch::Sender<Arc<Snapshot>>,
    rescans: mpsc::Receiver<oneshot::Sender<Arc<Snapshot>>>,
    /// Whoever asked for a rescan and is answered by the next publication.
    waiting: Vec<oneshot::Sender<Arc<Snapshot>>>,
    images: Images,
    /// Services whose tasks matter although they have no routes.
    also: watch::Receiver<BTreeSet<String>>,
    seen: Seen,
    tasks: Tasks,
    /// When tasks, or what is wanted of them, were last seen to change.
    moved_at: Instant,
}

/// The services as they were read last, before their tasks are known.
#[derive(Default)]
struct Seen {
    services: Vec<Service>,
    problems: Vec<Problem>,
    /// Whether the tasks of any are being replaced.
    updating: bool,
    at: Option<u64>,
}

impl Pilot {
    async fn run(mut self) {
        loop {
            let Err(error) = self.session().await;
            let pause = match &error {
                EngineError::NotManager { .. } => self.config.not_manager_retry,
                _ => self.backoff.pause(),
            };
            self.give_up(&error, pause);
            self.pause(pause).await;
        }
    }

    /// One connection to the engine, from the first look to the first failure.
    async fn session(&mut self) -> Result<std::convert::Infallible, EngineError> {
        let engine = Engine::connect(self.config.host.as_deref(), self.config.tls.as_ref())?;
        let (events, changed) = watch::channel(());
        let ping = self.config.ping;
        // In this order: the event stream is asked for before the first list, so nothing falls between.
        tokio::select! {
            biased;
            error = listen(&engine, &events) => Err(error),
            error = keep_alive(&engine, ping) => Err(error),
            error = self.follow(&engine, changed) => Err(error),
        }
    }

    /// Reads services at the start, after events, on request and once per `resync`; and their tasks more often.
    async fn follow(&mut self, engine: &Engine, mut changed: watch::Receiver<()>) -> EngineError {
        // The stream may have come up a moment after the first list was answered: look once more.
        let mut quiet = SETTLE.min(self.config.resync);
        loop {
            changed.mark_unchanged();
            let began = Instant::now();
            if let Err(error) = self.sync(engine).await {
                return error;
            }
            self.backoff.reset();
            let resync = began + quiet;
            tokio::select! {
                Ok(()) = changed.changed() => {
                    sleep_until(began + self.config.debounce).await;
                    self.moved_at = Instant::now();
                }
                // Without an error it is a request, or time for the next look.
                error = self.follow_tasks(engine, resync) => if let Some(error) = error {
                    return error;
                },
            }
            quiet = self.config.resync;
        }
    }

    /// Reads tasks again and again, until services are due or asked for.
    async fn follow_tasks(&mut self, engine: &Engine, until: Instant) -> Option<EngineError> {
        loop {
            let moving = (self.seen.updating || self.tasks.is_moving()) && self.moved_at.elapsed() < MOVING_MAX
                || self.moved_at.elapsed() < MOVING_MIN;
            let pause = if moving { self.config.tasks_moving } else { self.config.tasks_quiet };
            tokio::select! {
                Some(reply) = self.rescans.recv() => {
                    self.enlist(reply);
                    return None;
                }
                Ok(()) = self.also.changed() => {}
                () = sleep(pause) => {}
                () = sleep_until(until) => return None,
            }
            if let Err(error) = self.sync_tasks(engine).await {
                return Some(error);
            }
        }
    }

    /// Reads all services with their tasks and publishes what they ask for.
    async fn sync(&mut self, engine: &Engine) -> Result<(), EngineError> {
        let mut descriptions = engine.services().await?;
        self.images.fill(engine, &mut descriptions).await;
        let updating = descriptions.iter().any(|service| service.updating);
        let (services, problems) = claims::settle(descriptions);
        self.seen = Seen { services, problems, updating, at: Some(unix_ms()) };
        self.sync_tasks(engine).await
    }

    /// Reads the tasks of the services that were read last, and publishes what has changed.
    async fn sync_tasks(&mut self, engine: &Engine) -> Result<(), EngineError> {
        let also = self.also.borrow_and_update().clone();
        let matters =
            |service: &&Service| !service.routes.is_empty() || also.contains(&service.name.to_ascii_lowercase());
        let wanted: Vec<&Service> = self.seen.services.iter().filter(matters).collect();
        let mut tasks_of = wanted.iter().map(|service| service.name.to_ascii_lowercase()).collect();
        let wanted = wanted.into_iter().map(|service| service.id.clone()).collect();
        let tasks_error = match self.tasks.read(engine, &wanted).await {
            Ok(()) => None,
            // One that was removed meanwhile is not known any more, which its event tells; or it is a proxy before the
            // engine that forbids it.
            Err(error @ EngineError::Refused { .. }) => {
                tasks_of = BTreeSet::new();
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        let mut services = self.seen.services.clone();
        let mut problems = self.seen.problems.clone();
        problems.extend(self.tasks.place(&mut services, &self.config.subnets.now()));
        problems.sort();
        self.tell(Snapshot {
            state: State::Watching,
            services,
            problems,
            synced_at: self.seen.at,
            tasks_of,
            tasks_error,
        });
        Ok(())
    }

    /// Publishes what was seen, unless it was told already and nobody waits for it.
    fn tell(&mut self, snapshot: Snapshot) {
        let before = self.publisher.borrow().clone();
        if tasks(&before) != tasks(&snapshot) {
            self.moved_at = Instant::now();
        }
        for problem in snapshot.problems.iter().filter(|p| !before.problems.contains(p)) {
            tracing::warn!(service = %problem.service, label = %problem.label, "{}", problem.message);
        }
        if let Some(error) = snapshot.tasks_error.as_ref().filter(|error| before.tasks_error.as_ref() != Some(error)) {
            tracing::warn!("the tasks of services can't be read, so the DNS has to tell where they are: {error}");
        }
        if before.state != State::Watching {
            tracing::info!(services = snapshot.services.len(), "watching the swarm's services");
        }
        if *before != snapshot || !self.waiting.is_empty() {
            self.publish(snapshot);
        }
    }

    /// Tells that the engine is lost, keeping what was last seen.
    fn give_up(&mut self, error: &EngineError, pause: Duration) {
        let state = match error {
            EngineError::NotManager { message } => State::NotManager { message: message.clone() },
            other => State::Unreachable { error: other.to_string() },
        };
        let before = self.publisher.borrow().clone();
        // The same fault again and again is told once.
        if before.state != state {
            let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            match error {
                EngineError::NotManager { .. } => tracing::info!(retry_ms, "{error}"),
                // Who was given none means that: others watch for this node.
                EngineError::NoSocket { path } if before.synced_at.is_none() => {
                    tracing::info!(path, "no Docker engine here, so other nodes have to watch the swarm");
                }
                _ => tracing::warn!(retry_ms, "{error}"),
            }
        }
        self.publish(before.in_state(state));
    }

    fn publish(&mut self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.publisher.send_replace(snapshot.clone());
        for reply in self.waiting.drain(..) {
            // Whoever asked may have left.
            let _ = reply.send(snapshot.clone());
        }
    }

    /// Waits before the next attempt, cut short by a request.
    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            Some(reply) = self.rescans.recv() => self.enlist(reply),
            () = sleep(pause) => {}
        }
    }

    /// Takes this request and all that queue behind it: one read answers them all.
    fn enlist(&mut self, reply: oneshot::Sender<Arc<Snapshot>>) {
        self.waiting.push(reply);
        while let Ok(reply) = self.rescans.try_recv() {
            self.waiting.push(reply);
        }
    }
}

/// Turns the engine's events into marks of change until the stream ends or makes no sense.
async fn listen(engine: &Engine, changed: &watch::Sender<()>) -> EngineError {
    let events = engine.events();
    pin_mut!(events);
    loop {
        match events.next().await {
            Some(Ok(())) => changed.send_replace(()),
            Some(Err(error)) => return error,
            None => return EngineError::EventsEnded,
        }
    }
}

/// Pings until there is no answer: a connection can die without a sign, and the event stream is silent
/// for hours on a quiet swarm.
pub(crate) async fn keep_alive(engine: &Engine, every: Duration) -> EngineError {
    loop {
        sleep(every).await;
        if let Err(error) = engine.ping(every.min(PING_TIMEOUT)).await {
            return error;
        }
    }
}

/// The tasks of all services that have some.
fn tasks(snapshot: &Snapshot) -> BTreeMap<&str, &[crate::snapshot::Task]> {
    let with_tasks = snapshot.services.iter().filter(|service| !service.tasks.is_empty());
    with_tasks.map(|service| (service.id.as_str(), service.tasks.as_slice())).collect()
}

pub(crate) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Requests for a rescan that may queue; further ones wait their turn.
const RESCANS_MAX: usize = 16;

/// How long tasks are read often after a change: what is wanted of services becomes tasks a moment later.
const MOVING_MIN: Duration = Duration::from_secs(10);

/// How long tasks that are on their way may take until nobody hurries for them.
const MOVING_MAX: Duration = Duration::from_secs(120);

/// From the first list to the second.
const SETTLE: Duration = Duration::from_secs(1);

/// An engine that is alive answers a ping within milliseconds.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
