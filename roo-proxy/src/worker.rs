//! A worker: one thread, one event loop, its own sockets and pool.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::coop::unconstrained;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Journal, Writer};
use crate::activity::{self, Sweep};
use crate::buffer::Buffers;
use crate::connection::{self, Open};
use crate::control::Shared;
use crate::event::Event;
use crate::failure::Failure;
use crate::metric::Measures;
use crate::origin::Scheme;
use crate::proxy::Stop;
use crate::table::Entry;
use crate::tls::Configs;
use crate::upstream::http2::Links;
use crate::upstream::names::{NameCache, Names};
use crate::upstream::pool::Pool;
use crate::view::{self, Inquiry};

/// What the tasks of one worker share. Never leaves its thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tls: Arc<Configs>,
    pub(crate) stop: Stop,
    pub(crate) sweep: Sweep,
    pub(crate) pool: Pool,
    pub(crate) links: Rc<Links>,
    pub(crate) buffers: Buffers,
    /// The time as responses tell it, as of the last tick.
    pub(crate) date: RefCell<String>,
    pub(crate) names: NameCache,
    /// The version of the fixed answers in which there was none.
    pub(crate) no_replies: Cell<Option<u64>>,
    pub(crate) measures: Measures,
    /// The access log, if there is one.
    pub(crate) journal: Option<Journal>,
    /// Held once by each connection being turned away.
    turned_away: Rc<()>,
    /// How many clients there were.
    clients: Cell<u64>,
    /// The tasks that a drain waits for: connections and tunnels.
    pub(crate) tracker: TaskTracker,
}

/// What a worker is made from; may be sent to its thread.
pub(crate) struct Seed {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tls: Arc<Configs>,
    pub(crate) stop: Stop,
    pub(crate) names: Arc<Names>,
    pub(crate) inquiries: mpsc::Receiver<Inquiry>,
}

impl Worker {
    /// The worker, and what it will be asked.
    pub(crate) fn new(seed: Seed) -> (Rc<Worker>, mpsc::Receiver<Inquiry>) {
        let Seed { index, shared, tls, stop, names, inquiries } = seed;
        let pool = Pool::new(shared.config.limits.idle_upstream_connections);
        let worker = Rc::new(Worker {
            index,
            tls,
            stop,
            sweep: Sweep::new(),
            pool,
            links: Rc::default(),
            buffers: Buffers::default(),
            date: RefCell::new(date()),
            names: NameCache::new(names),
            no_replies: Cell::new(None),
            measures: Measures::new(),
            journal: shared.access.as_ref().map(Writer::journal),
            turned_away: Rc::new(()),
            clients: Cell::new(0),
            tracker: TaskTracker::new(),
            shared,
        });
        (worker, inquiries)
    }

    /// Tells the proxy's owner of a failure if a destination is to blame.
    pub(crate) fn tell(&self, entry: &Entry, destination: &Arc<str>, failure: Failure) {
        if failure.is_upstream() {
            self.shared.events.tell(Event::UpstreamFailed {
                origin: entry.origin.clone(),
                destination: destination.clone(),
                reason: failure.reason(),
            });
        }
    }

    /// The id of another client's connection.
    pub(crate) fn next_client(&self) -> u64 {
        self.clients.set(self.clients.get() + 1);
        self.clients.get()
    }

    /// The count of requests under way on this worker.
    pub(crate) fn requests(&self) -> &AtomicUsize {
        &self.shared.counts.requests[self.index].0
    }
}

/// A socket to accept from, and when to stop that.
pub(crate) struct Door<L = std::net::TcpListener> {
    pub(crate) scheme: Scheme,
    pub(crate) listener: L,
    /// Before the drain, if it is closed earlier.
    pub(crate) closed: CancellationToken,
}

/// The sockets of one worker: those that it begins with, and those of ports that are opened later.
pub(crate) struct Doors {
    pub(crate) first: Vec<Door>,
    pub(crate) more: UnboundedReceiver<Door>,
}

/// Serves the sockets until drained or cut. Must run on a `LocalRuntime`.
pub(crate) async fn run(
    (worker, inquiries): (Rc<Worker>, mpsc::Receiver<Inquiry>),
    first: Vec<Door<TcpListener>>,
    more: UnboundedReceiver<Door>,
) {
    let sweeping = tokio::task::spawn_local(sweep(worker.clone()));
    let answering = tokio::task::spawn_local(view::answer(worker.clone(), inquiries));
    let serving = async {
        let draining = async {
            worker.stop.drain.cancelled().await;
            worker.sweep.drain();
        };
        tokio::join!(accept_all(&worker, first, more), draining);
        worker.tracker.close();
        worker.tracker.wait().await;
    };
    tokio::select! {
        () = serving => {}
        () = worker.stop.cut.cancelled() => {}
    }
    sweeping.abort();
    answering.abort();
}

/// Registers a socket with the event loop that it is called on.
pub(crate) fn register(door: Door) -> io::Result<Door<TcpListener>> {
    let Door { scheme, listener, closed } = door;
    Ok(Door { scheme, listener: TcpListener::from_std(listener)?, closed })
}

/// Accepts from all sockets, those that come later as well, until the drain.
async fn accept_all(worker: &Rc<Worker>, first: Vec<Door<TcpListener>>, mut more: UnboundedReceiver<Door>) {
    tokio::select! {
        () = worker.stop.opened.cancelled() => {}
        // Whoever waits then is another process's.
        () = worker.stop.drain.cancelled() => return,
    }
    let mut accepting: FuturesUnordered<_> = first.into_iter().map(|door| accept(worker, door)).collect();
    loop {
        tokio::select! {
            biased;
            () = worker.stop.drain.cancelled() => break,
            Some(door) = more.recv() => match register(door) {
                Ok(door) => accepting.push(accept(worker, door)),
                Err(fault) => tracing::error!(%fault, "a worker cannot listen on another port"),
            },
            Some(()) = accepting.next() => {}
        }
    }
    while accepting.next().await.is_some() {}
}

/// Accepts until closed or the drain, then takes what the kernel has already let in: closing the socket would
/// reset it.
async fn accept(worker: &Rc<Worker>, door: Door<TcpListener>) {
    let Door { scheme, listener, closed } = door;
    loop {
        let accepted = tokio::select! {
            biased;
            () = worker.stop.drain.cancelled() => break,
            () = closed.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => start(worker, scheme, socket, peer),
            Err(fault) if is_of_one_connection(&fault) => {}
            Err(fault) => {
                tracing::warn!(listener = %scheme, %fault, "cannot accept connections for the moment");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    // The task's budget would end it long before the queue does.
    for _ in 0..QUEUED_MAX {
        let Some(Ok((socket, peer))) = unconstrained(listener.accept()).now_or_never() else { break };
        start(worker, scheme, socket, peer);
    }
}

/// Connections that are taken at the end: as many as wait for a socket. A copy of it elsewhere may take more.
const QUEUED_MAX: usize = 4_096;

/// Descriptors may be out; others' connections will free some.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

fn is_of_one_connection(fault: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(fault.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Each connection is a task of its own: a panic ends that one alone.
fn start(worker: &Rc<Worker>, scheme: Scheme, socket: TcpStream, peer: std::net::SocketAddr) {
    match Open::admit(worker, scheme) {
        Some(open) => {
            worker.tracker.spawn_local(connection::serve(worker.clone(), open, socket, peer));
        }
        None if scheme == Scheme::Http => turn_away(worker, socket),
        None => {}
    }
}

/// In a flood most are closed without a word: turning away must cost less than serving.
fn turn_away(worker: &Rc<Worker>, socket: TcpStream) {
    let turned = worker.turned_away.clone();
    if Rc::strong_count(&turned) <= TURNED_AWAY_MAX {
        tokio::task::spawn_local(async move {
            connection::turn_away(socket).await;
            drop(turned);
        });
    }
}

/// Connections being told at the same time, per worker, that there are too many.
const TURNED_AWAY_MAX: usize = 64;

/// Now, as `Date` has it (RFC 9110 §5.6.7).
fn date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// The worker's one clock: deadlines, stale pool entries, handles of former routes.
async fn sweep(worker: Rc<Worker>) {
    let timeouts = &worker.shared.config.timeouts;
    let mut ticks = tokio::time::interval(activity::tick_interval(timeouts));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.sweep.tick(timeouts);
        worker.date.replace(date());
        worker.pool.sweep(timeouts.idle_upstream);
        worker.links.sweep(timeouts.idle_upstream);
        worker.names.sweep();
        worker.measures.sweep();
        if let Some(journal) = &worker.journal {
            journal.tick();
        }
    }
}
