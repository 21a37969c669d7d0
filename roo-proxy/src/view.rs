//! What is going on right now, as workers tell it when they are asked: nothing is kept for it that a request would pay.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::activity::{Activity, Phase};
use crate::control::Shared;
use crate::origin::Scheme;
use crate::table::Entry;
use crate::upstream::address::Address;
use crate::upstream::group::Member;
use crate::upstream::instance::Cause;
use crate::worker::Worker;

/// A client's connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionView {
    /// The client's end.
    pub peer: SocketAddr,
    /// `http` or `https`.
    pub listener: &'static str,
    /// `HTTP/1.1` or `HTTP/2`; nothing before the handshake has settled it.
    pub protocol: Option<&'static str>,
    /// The version of TLS, if there is any.
    pub tls: Option<&'static str>,
    /// `handshake`, `idle`, `head`, `upstream`, `body`, `tunnel` or `closing`: what it is at, or waits for.
    pub state: &'static str,
    /// Seconds since it was accepted.
    pub age_seconds: u64,
    /// Requests so far.
    pub requests: u64,
    /// Requests under way.
    pub active: u32,
    /// Bytes on the wire, those of TLS included.
    pub received_bytes: u64,
    /// As `received_bytes`, the other way.
    pub sent_bytes: u64,
    /// The origin of the last request that had a route.
    pub route: Option<Arc<str>>,
    /// The worker that serves it.
    pub worker: usize,
}

/// An instance of a route: one address that its requests go to.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamView {
    /// The origin of the route.
    pub route: Arc<str>,
    /// The destination as it stands in the route.
    pub upstream: Arc<str>,
    /// One of its addresses.
    pub address: String,
    /// `in`; `ejected`, if requests pass it over; `stopping`, if it has said so and gets nothing new.
    pub state: &'static str,
    /// Requests of this node whose response is not complete.
    pub active: usize,
    /// Connections of this node to the address that wait for the next request, whichever route that has.
    pub idle: usize,
    /// Why it was ejected: the reason as in `Roo-Error`, or `status-` and a status.
    pub cause: Option<String>,
    /// How often of late.
    pub ejections: Option<u32>,
    /// Seconds until it is tried again.
    pub out_seconds: Option<u64>,
}

/// What a worker is asked.
pub(crate) enum Inquiry {
    Connections { limit: usize, reply: oneshot::Sender<Vec<ConnectionView>> },
    Idle { reply: oneshot::Sender<HashMap<Address, usize>> },
}

/// Inquiries that wait for one worker.
pub(crate) const INQUIRIES_MAX: usize = 4;

/// A worker that is busier than that is left out.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is known of a client's connection besides its [`Activity`].
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) peer: SocketAddr,
    pub(crate) scheme: Scheme,
    pub(crate) since: Instant,
    pub(crate) protocol: Cell<Option<&'static str>>,
    pub(crate) tls: Cell<Option<&'static str>>,
    pub(crate) requests: Cell<u64>,
    /// The last route, by its id and its origin.
    route: RefCell<(u64, Option<Arc<str>>)>,
}

impl Visit {
    pub(crate) fn new(peer: SocketAddr, scheme: Scheme) -> Visit {
        Visit {
            peer,
            scheme,
            since: Instant::now(),
            protocol: Cell::new(None),
            tls: Cell::new(None),
            requests: Cell::new(0),
            route: RefCell::default(),
        }
    }

    /// A request has a route, most often the same as the one before.
    pub(crate) fn routed(&self, entry: &Entry) {
        if self.route.borrow().0 != entry.id {
            self.route.replace((entry.id, Some(entry.origin.clone())));
        }
    }
}

/// Answers as long as anybody may ask.
pub(crate) async fn answer(worker: Rc<Worker>, mut inquiries: mpsc::Receiver<Inquiry>) {
    while let Some(inquiry) = inquiries.recv().await {
        // Whoever asked may have stopped waiting.
        match inquiry {
            Inquiry::Connections { limit, reply } => drop(reply.send(connections(&worker, limit))),
            Inquiry::Idle { reply } => drop(reply.send(worker.pool.idle())),
        }
    }
}

fn connections(worker: &Worker, limit: usize) -> Vec<ConnectionView> {
    let mut views = Vec::new();
    worker.sweep.each(|activity| {
        if let Some(visit) = activity.visit()
            && views.len() < limit
        {
            views.push(connection(worker, activity, visit));
        }
    });
    views
}

fn connection(worker: &Worker, activity: &Activity, visit: &Visit) -> ConnectionView {
    let state = match activity.phase() {
        Phase::Untimed if visit.protocol.get().is_none() => "handshake",
        Phase::Untimed => "closing",
        Phase::Idle => "idle",
        Phase::Head => "head",
        Phase::Exchange | Phase::Response if activity.waits_for_upstream() => "upstream",
        Phase::Exchange | Phase::Response => "body",
        Phase::Tunnel => "tunnel",
    };
    let (received_bytes, sent_bytes) = activity.bytes();
    ConnectionView {
        peer: visit.peer,
        listener: visit.scheme.as_str(),
        protocol: visit.protocol.get(),
        tls: visit.tls.get(),
        state,
        age_seconds: visit.since.elapsed().as_secs(),
        requests: visit.requests.get(),
        active: activity.exchanges(),
        received_bytes,
        sent_bytes,
        route: visit.route.borrow().1.clone(),
        worker: worker.index,
    }
}

/// Asks all workers for their connections, at most `limit` in all.
pub(crate) async fn all_connections(shared: &Shared, limit: usize) -> Vec<ConnectionView> {
    let answers = ask(shared, |reply| Inquiry::Connections { limit, reply }).await;
    let mut views: Vec<_> = answers.into_iter().flatten().collect();
    views.truncate(limit);
    views
}

/// The instances of all routes that were asked, at most `limit` of them, with what all workers keep for each.
pub(crate) async fn all_upstreams(shared: &Shared, limit: usize) -> Vec<UpstreamView> {
    let mut kept: HashMap<Address, usize> = HashMap::new();
    for (address, idle) in ask(shared, |reply| Inquiry::Idle { reply }).await.into_iter().flatten() {
        *kept.entry(address).or_default() += idle;
    }
    let (mut views, now) = (Vec::new(), Instant::now());
    for entry in shared.routes.load().entries() {
        for member in entry.upstreams.group().iter().flat_map(|group| &group.members) {
            if views.len() < limit {
                views.push(upstream(entry, member, &kept, now));
            }
        }
    }
    views.sort_by(|a, b| (&a.route, &a.upstream, &a.address).cmp(&(&b.route, &b.upstream, &b.address)));
    views
}

fn upstream(entry: &Entry, member: &Member, kept: &HashMap<Address, usize>, now: Instant) -> UpstreamView {
    let instance = &member.instance;
    let out = instance.out(now);
    let state = match out {
        _ if member.stopping => "stopping",
        Some(_) => "ejected",
        None => "in",
    };
    UpstreamView {
        route: entry.origin.clone(),
        upstream: instance.upstream.url.clone(),
        address: instance.address.to_string(),
        state,
        active: instance.in_flight(),
        idle: kept.get(&instance.address).copied().unwrap_or_default(),
        cause: out.and_then(|out| out.cause).map(Cause::reason),
        ejections: out.map(|out| out.ejections),
        out_seconds: out.map(|out| out.left.as_secs()),
    }
}

async fn ask<T>(shared: &Shared, inquiry: impl Fn(oneshot::Sender<T>) -> Inquiry) -> Vec<T> {
    let asked = shared.inquiries.iter().map(async |worker| {
        let (reply, answer) = oneshot::channel();
        worker.send(inquiry(reply)).await.ok()?;
        answer.await.ok()
    });
    let within = asked.map(|asked| tokio::time::timeout(ANSWER_WITHIN, asked));
    futures_util::future::join_all(within).await.into_iter().filter_map(|answer| answer.ok().flatten()).collect()
}
