//! Ports that routes name and no listener has: listened on while a route names them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::control::Shared;
use crate::listener::{BindError, Bound, Listeners, bind_list};
use crate::origin::Scheme;
use crate::proxy::Stop;
use crate::table::NamedPorts;
use crate::worker::{Door, Doors};

/// The ports that routes have opened, and those that could not be.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// Where the proxy listens because of them.
    pub open: Vec<SocketAddr>,
    /// What is tried again until it works or no route names it any more.
    pub failed: Vec<PortFault>,
    /// The sockets of those that are open once more, to be given to another process.
    pub(crate) sockets: Vec<(Scheme, Arc<TcpListener>)>,
}

/// A port that a route names and that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFault {
    /// The scheme of the route's origin.
    pub scheme: Scheme,
    /// The address that is in the way, or the first that would have been listened on.
    pub address: SocketAddr,
    /// The reason, as text.
    pub reason: String,
}

/// Ports opened because of routes. More are not opened.
const OPEN_MAX: usize = 256;

/// How long until a port that could not be opened is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Opens and closes ports as routes come and go.
pub(crate) struct Opener {
    shared: Arc<Shared>,
    /// What is listened on from start to end.
    fixed: Vec<(Scheme, SocketAddr)>,
    /// How sockets get to each worker. Unbounded: only this task sends, a few for each port.
    workers: Vec<UnboundedSender<Door>>,
    stop: Stop,
    /// Sockets from the process before this one. Those that no route names at first are closed.
    spare: Vec<Bound>,
    open: BTreeMap<(Scheme, u16), Open>,
    failed: BTreeMap<(Scheme, u16), PortFault>,
}

/// A port that is listened on until this is dropped.
struct Open {
    addresses: Vec<SocketAddr>,
    sockets: Vec<Arc<TcpListener>>,
    _closing: DropGuard,
}

impl Opener {
    /// The opener, and what each worker begins with.
    pub(crate) fn new(shared: Arc<Shared>, listeners: Listeners, stop: &Stop) -> (Opener, Vec<Doors>) {
        let fixed = listeners.addresses().collect();
        let (workers, receivers): (Vec<_>, Vec<_>) = (0..listeners.workers()).map(|_| unbounded_channel()).unzip();
        let mut doors: Vec<_> = receivers.into_iter().map(|more| Doors { first: Vec::new(), more }).collect();
        for bound in listeners.bound {
            for (index, listener) in bound.sockets.into_iter().enumerate() {
                let closed = CancellationToken::new();
                let count = doors.len();
                doors[index % count].first.push(Door { scheme: bound.scheme, listener, closed });
            }
        }
        let (stop, spare) = (stop.clone(), listeners.spare);
        let opener = Opener { shared, fixed, workers, stop, spare, open: BTreeMap::new(), failed: BTreeMap::new() };
        (opener, doors)
    }

    /// Runs until the drain.
    pub(crate) async fn run(mut self) {
        self.stop.opened.cancelled().await;
        let mut wanted = self.shared.wanted_ports.subscribe();
        loop {
            let named = wanted.borrow_and_update().clone();
            self.follow(&named);
            self.spare.clear();
            let retry = async {
                match self.failed.is_empty() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(AGAIN_AFTER).await,
                }
            };
            tokio::select! {
                () = self.stop.drain.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() { return },
                () = retry => {}
            }
        }
    }

    /// Makes what is open what is named.
    fn follow(&mut self, named: &NamedPorts) {
        let is_fixed = |(scheme, port): &(Scheme, u16)| {
            self.fixed.iter().any(|(own, address)| own == scheme && address.port() == *port)
        };
        let wanted: BTreeSet<_> = named.keys().copied().filter(|port| !is_fixed(port)).collect();
        self.open.retain(|port, open| {
            let stays = wanted.contains(port);
            if !stays {
                tracing::info!(scheme = %port.0, port = port.1, addresses = ?open.addresses, "no route names this port any more: closed");
            }
            stays
        });
        self.failed.retain(|port, _| wanted.contains(port));
        for port in wanted {
            if !self.open.contains_key(&port) {
                self.open(port);
            }
        }
        self.publish();
    }

    fn open(&mut self, port: (Scheme, u16)) {
        let bound = match self.bind(port) {
            Ok(bound) => bound,
            Err(fault) => {
                if self.failed.insert(port, fault.clone()).is_none() {
                    let PortFault { scheme, address, reason } = fault;
                    tracing::warn!(%scheme, %address, reason, "a route names a port that cannot be listened on; it is tried again");
                }
                return;
            }
        };
        let addresses: Vec<_> = bound.iter().map(|bound| bound.address).collect();
        let copies = bound.iter().flat_map(|bound| &bound.sockets).map(TcpListener::try_clone);
        // Without a copy the port is only not given to the next process.
        let sockets = copies.flatten().map(Arc::new).collect();
        tracing::info!(scheme = %port.0, ?addresses, "listening, since a route names this port");
        let closed = CancellationToken::new();
        for bound in bound {
            for (listener, worker) in bound.sockets.into_iter().zip(self.workers.iter().cycle()) {
                // A worker that is gone ends the process.
                let _ = worker.send(Door { scheme: bound.scheme, listener, closed: closed.clone() });
            }
        }
        self.failed.remove(&port);
        self.open.insert(port, Open { addresses, sockets, _closing: closed.drop_guard() });
    }

    /// Binds the port on every address of its scheme.
    fn bind(&mut self, (scheme, port): (Scheme, u16)) -> Result<Vec<Bound>, PortFault> {
        let ips: BTreeSet<_> = self.fixed.iter().filter(|(own, _)| *own == scheme).map(|(_, own)| own.ip()).collect();
        let addresses: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if self.open.len() >= OPEN_MAX {
            let address = addresses.first().copied().unwrap_or(SocketAddr::from(([0; 4], port)));
            return Err(PortFault { scheme, address, reason: format!("routes have opened {OPEN_MAX} ports already") });
        }
        let is_meant = |bound: &mut Bound| bound.scheme == scheme && addresses.contains(&bound.address);
        let taken: Vec<_> = self.spare.extract_if(.., is_meant).collect();
        if !taken.is_empty() {
            return Ok(taken);
        }
        bind_list(scheme, &addresses, self.workers.len()).map_err(|fault| {
            let BindError { scheme, address, source } = fault;
            PortFault { scheme, address, reason: source.to_string() }
        })
    }

    fn publish(&self) {
        let open = self.open.values().flat_map(|open| open.addresses.iter().copied()).collect();
        let failed = self.failed.values().cloned().collect();
        let sockets =
            self.open.iter().flat_map(|((scheme, _), open)| open.sockets.iter().map(|s| (*scheme, s.clone())));
        let sockets = sockets.collect();
        crate::metric::route_ports(self.open.len(), self.failed.len());
        self.shared.ports.store(Arc::new(Ports { open, failed, sockets }));
    }
}
