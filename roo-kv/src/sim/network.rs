//! The network: connections whose frames arrive in order, late, or never.
//!
//! A connection behaves as HTTP/2 over TCP does. A cut holds frames back, and what is held back arrives when the cut
//! ends, unless it lasts so long that the ends give the connection up; a reset loses what is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::oneshot;

use super::line::Line;
use super::trace::Trace;
use crate::handler::Answering;
use crate::id::NodeId;
use crate::peer::{Body, Connection, Dial};

/// A connection that is held up for this long is given up.
const STALL_MS: u64 = 5000;

/// Where a host listens.
#[derive(Clone)]
pub(super) struct Port {
    pub(super) host: usize,
    pub(super) node: NodeId,
    pub(super) handler: Arc<Answering>,
    pub(super) runtime: tokio::runtime::Handle,
}

/// Clones are the same network.
#[derive(Clone, Default)]
pub(super) struct Network(Arc<Mutex<Wires>>);

type Arrival = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Wires {
    now: u64,
    sequence: u64,
    arrivals: BTreeMap<(u64, u64), Arrival>,
    ports: BTreeMap<String, Port>,
    /// Addresses of machines that run, but not the program.
    closed: BTreeSet<String>,
    /// From where nothing gets to where.
    cut: BTreeSet<(usize, usize)>,
    /// Between whom everything takes so much longer.
    slow: BTreeMap<(usize, usize), u64>,
    lines: BTreeMap<u64, Arc<Line>>,
    trace: Trace,
}

impl Network {
    pub(super) fn now(&self) -> u64 {
        self.wires().now
    }

    pub(super) fn note(&self, what: Arguments<'_>, bytes: &[u8]) {
        let mut wires = self.wires();
        let now = wires.now;
        wires.trace.note(now, what, bytes);
    }

    pub(super) fn trace_hash(&self) -> (u32, u64) {
        self.wires().trace.hash()
    }

    pub(super) fn last_lines(&self) -> String {
        self.wires().trace.last_lines()
    }

    /// Lets everything arrive that is due.
    pub(super) fn advance_to(&self, now: u64) {
        self.wires().now = now;
        loop {
            let mut wires = self.wires();
            let Some(entry) = wires.arrivals.first_entry().filter(|entry| entry.key().0 <= now) else { break };
            let arrival = entry.remove();
            drop(wires);
            arrival();
        }
    }

    /// Does something later.
    pub(super) fn after(&self, delay: u64, arrival: impl FnOnce() + Send + 'static) {
        let mut wires = self.wires();
        wires.sequence += 1;
        let at = (wires.now + delay, wires.sequence);
        wires.arrivals.insert(at, Box::new(arrival));
    }

    /// How long something takes from one host to another, now.
    pub(super) fn delay(&self, from: usize, to: usize) -> u64 {
        let rare = if fastrand::u8(..) < 3 { fastrand::u64(20..150) } else { 0 };
        1 + fastrand::u64(..3) + rare + self.wires().slow.get(&(from, to)).copied().unwrap_or(0)
    }

    pub(super) fn listen(&self, address: &str, port: Port) {
        let mut wires = self.wires();
        wires.closed.remove(address);
        wires.ports.insert(address.to_owned(), port);
    }

    /// The host stops. After a kill the others are told at once; after a power cut nobody answers.
    pub(super) fn stop(&self, host: usize, address: &str, killed: bool) {
        let lines: Vec<Arc<Line>> = {
            let mut wires = self.wires();
            wires.ports.remove(address);
            if killed {
                wires.closed.insert(address.to_owned());
            }
            wires.lines.values().filter(|line| line.touches(host)).cloned().collect()
        };
        for line in lines {
            line.deafen(host);
            if killed {
                let delay = self.delay(line.client, line.server);
                self.after(delay, move || line.reset());
            }
        }
    }

    /// The host is there again and knows nothing of the connections from before.
    pub(super) fn forget(&self, host: usize, address: &str) {
        let lines: Vec<_> = {
            let mut wires = self.wires();
            wires.closed.insert(address.to_owned());
            wires.lines.values().filter(|line| line.touches(host)).cloned().collect()
        };
        for line in lines {
            let delay = self.delay(line.client, line.server);
            self.after(delay, move || line.reset());
        }
    }

    pub(super) fn cut(&self, from: usize, to: usize) {
        self.wires().cut.insert((from, to));
    }

    pub(super) fn heal(&self) {
        let lines: Vec<_> = {
            let mut wires = self.wires();
            wires.cut.clear();
            wires.slow.clear();
            wires.lines.values().cloned().collect()
        };
        for line in lines {
            line.resume();
        }
    }

    pub(super) fn slow_down(&self, from: usize, to: usize, by: u64) {
        self.wires().slow.insert((from, to), by);
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.wires().cut.contains(&(from, to))
    }

    /// Resets some connection; false if there is none.
    pub(super) fn reset_one(&self) -> bool {
        let line = {
            let wires = self.wires();
            let number = fastrand::usize(..wires.lines.len().max(1));
            wires.lines.values().nth(number).cloned()
        };
        if let Some(line) = &line {
            line.reset();
        }
        line.is_some()
    }

    /// Ends connections that are held up for too long. Called now and then.
    pub(super) fn sweep(&self) {
        let (now, lines) = {
            let wires = self.wires();
            (wires.now, wires.lines.values().cloned().collect::<Vec<_>>())
        };
        for line in lines {
            if line.stalled_since(now).is_some_and(|since| now - since > STALL_MS) {
                line.reset();
            }
        }
    }

    pub(super) fn drop_line(&self, id: u64) {
        let line = self.wires().lines.remove(&id);
        drop(line);
    }

    /// Forgets everybody, so that nothing keeps anything else alive.
    pub(super) fn close(&self) {
        let wires = std::mem::take(&mut *self.wires());
        self.wires().trace = wires.trace;
        wires.lines.values().for_each(|line| line.part());
        drop((wires.arrivals, wires.ports, wires.lines));
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection request arrives.
    fn accept(&self, dialer: &Dialer, address: &str, expected: Option<NodeId>, answer: Answered) {
        let (port, closed) = {
            let wires = self.wires();
            (wires.ports.get(address).cloned(), wires.closed.contains(address))
        };
        let Some(port) = port else {
            // Without a machine there is no answer at all.
            if closed {
                self.after(1, move || drop(answer.send(Err(io::ErrorKind::ConnectionRefused.into()))));
            }
            return;
        };
        if self.is_cut(dialer.host, port.host) || self.is_cut(port.host, dialer.host) {
            return;
        }
        let node = port.node;
        if expected.is_some_and(|expected| expected != node) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "another node is there");
            return self.after(1, move || drop(answer.send(Err(error))));
        }
        let line = {
            let mut wires = self.wires();
            wires.sequence += 1;
            let line = Arc::new(Line::new(wires.sequence, self.clone(), dialer.host, dialer.node, dialer.ip, port));
            wires.lines.insert(line.id, Arc::clone(&line));
            line
        };
        let delay = self.delay(line.server, line.client);
        self.after(delay, move || drop(answer.send(Ok((node, Arc::new(Wire(line)))))));
    }
}

type Answered = oneshot::Sender<io::Result<(NodeId, Arc<dyn Connection>)>>;

/// Makes connections from one host.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) network: Network,
    pub(super) host: usize,
    pub(super) node: NodeId,
    pub(super) ip: IpAddr,
}

impl Dial for Dialer {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        expected: Option<NodeId>,
    ) -> BoxFuture<'a, io::Result<(NodeId, Arc<dyn Connection>)>> {
        let (answer, answered) = oneshot::channel();
        let (dialer, target) = (self.clone(), address.to_owned());
        let delay = fastrand::u64(1..4);
        self.network.after(delay, move || dialer.network.clone().accept(&dialer, &target, expected, answer));
        async move {
            match answered.await {
                Ok(connected) => connected,
                // Nobody will ever answer.
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }
}

struct Wire(Arc<Line>);

impl Connection for Wire {
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, io::Result<Response<Body>>> {
        Arc::clone(&self.0).send(request).boxed()
    }

    fn is_closed(&self) -> bool {
        self.0.is_broken()
    }
}
