//! The handle by which snapshots come in, and what the workers share.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::access::Writer;
use crate::certificate::Certificates;
use crate::config::Config;
use crate::event::EventSender;
use crate::listener::Listeners;
use crate::ports::Ports;
use crate::replies::Replies;
use crate::service::ServiceTable;
use crate::snapshot::Snapshot;
use crate::table::{NamedPorts, RouteTable};
use crate::tls::TlsAnswers;
use crate::tls::{Common, TicketKeys, Tickets};
use crate::upstream::identity::ClientCertificates;
use crate::upstream::names::Names;
use crate::view::{self, ConnectionView, Inquiry, UpstreamView};

/// Publishes snapshots to a running proxy. Cheap to clone; calls never wait and never touch live
/// connections: a request under way ends on the route it started with.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Shared>);

impl Control {
    /// Swaps the routes; the next request sees them. A route that is the same as before, under the same
    /// origin, goes on where it was: its rotation does not start anew. Takes no time for a changed copy of the table
    /// that is in force, else as long as there are routes.
    pub fn set_routes(&self, routes: RouteTable) {
        // Of two calls at the same time one may not see the other's table: that costs rotations their
        // place, nothing else.
        let routes = routes.renew(&self.0.routes.load());
        self.0.wanted_ports.send_if_modified(|wanted| {
            let changed = wanted != routes.ports();
            wanted.clone_from(routes.ports());
            changed
        });
        self.0.routes.store(routes);
    }

    /// Swaps the services; the next request sees them. An endpoint that is gone gets nothing new from here on.
    pub fn set_services(&self, services: ServiceTable) {
        self.0.services.store(Arc::new(services));
    }

    /// Swaps the certificates and wakes the handshakes that wait for one.
    pub fn set_certificates(&self, certificates: Certificates) {
        self.0.tls.certificates.store(Arc::new(certificates));
        self.0.certificates_changed.send_modify(|generation| *generation += 1);
    }

    /// Swaps the keys of session tickets; those of a key that is gone no longer resume anything. Until the first call a
    /// proxy has a key of its own.
    pub fn set_ticket_keys(&self, keys: TicketKeys) {
        self.0.tls.tickets.set(keys);
    }

    /// Swaps the client certificates that routes may name. Connections made with one that is gone or was replaced serve
    /// what is under way on them and nothing new.
    pub fn set_client_certificates(&self, certificates: ClientCertificates) {
        self.0.client_certificates.store(Arc::new(certificates));
    }

    /// Swaps the fixed answers of the plain listener.
    pub fn set_replies(&self, replies: Replies) {
        self.0.replies.store(replies);
    }

    /// Swaps the answers to handshakes of the protocol `acme-tls/1`.
    pub fn set_tls_answers(&self, answers: TlsAnswers) {
        self.0.tls_answers.send_replace(answers);
    }

    /// Has the file of the access log opened anew, so that it can be moved away before. Whether there is a log.
    pub fn reopen_access_log(&self) -> bool {
        self.0.access.as_ref().map(Writer::reopen).is_some()
    }

    /// The open connections of clients, at most `limit`. Asks every worker; one that does not answer within two seconds
    /// is left out. Dropping the future loses nothing.
    pub async fn connections(&self, limit: usize) -> Vec<ConnectionView> {
        view::all_connections(&self.0, limit).await
    }

    /// The instances that routes lead to, as far as they were asked, at most `limit`. As [`Control::connections`].
    pub async fn upstreams(&self, limit: usize) -> Vec<UpstreamView> {
        view::all_upstreams(&self.0, limit).await
    }

    /// The ports that routes have opened, and those that could not be.
    pub fn ports(&self) -> Arc<Ports> {
        self.0.ports.load_full()
    }

    /// What is going on right now.
    pub fn stats(&self) -> Stats {
        let counts = &self.0.counts;
        Stats {
            connections: counts.connections.load(Ordering::Relaxed),
            requests: counts.requests.iter().map(|count| count.0.load(Ordering::Relaxed)).sum(),
            tunnels: counts.tunnels.load(Ordering::Relaxed),
            certificate_waiters: counts.certificate_waiters.load(Ordering::Relaxed),
            tls_answer_waiters: self.0.tls_answers.receiver_count(),
            routes: self.0.routes.load().len(),
            certificates: self.0.tls.certificates.load().len(),
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").field(&self.stats()).finish()
    }
}

/// Live counts over all workers; each is exact, but they are not read at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Open client connections, those still in their handshake and tunnels included.
    pub connections: usize,
    /// Requests whose response is not complete.
    pub requests: usize,
    /// Upgraded connections.
    pub tunnels: usize,
    /// Handshakes that wait for a certificate.
    pub certificate_waiters: usize,
    /// Handshakes that wait for the answer to a challenge.
    pub tls_answer_waiters: usize,
    /// Origins in the current route table.
    pub routes: usize,
    /// Names in the current certificate snapshot.
    pub certificates: usize,
}

/// What all workers of a proxy see.
pub(crate) struct Shared {
    pub(crate) routes: Snapshot<RouteTable>,
    pub(crate) services: ArcSwap<ServiceTable>,
    pub(crate) tls: Common,
    pub(crate) certificates_changed: watch::Sender<u64>,
    pub(crate) client_certificates: ArcSwap<ClientCertificates>,
    pub(crate) replies: Snapshot<Replies>,
    pub(crate) tls_answers: watch::Sender<TlsAnswers>,
    pub(crate) events: EventSender,
    /// Set before the first worker starts.
    pub(crate) names: OnceLock<Arc<Names>>,
    pub(crate) config: Config,
    /// The ports that routes name.
    pub(crate) wanted_ports: watch::Sender<Arc<NamedPorts>>,
    /// What became of them.
    pub(crate) ports: ArcSwap<Ports>,
    /// Where this process listens itself, apart from those.
    pub(crate) listeners: Vec<SocketAddr>,
    /// The port of the https listener, and the one that clients and redirects name for it.
    own_https_port: u16,
    pub(crate) https_port: u16,
    pub(crate) counts: Counts,
    pub(crate) access: Option<Writer>,
    /// To each worker, for those who want to know what it does.
    pub(crate) inquiries: Vec<mpsc::Sender<Inquiry>>,
}

/// A count on a cache line of its own, so that workers do not slow each other down.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct OwnLine(pub(crate) AtomicUsize);

pub(crate) struct Counts {
    pub(crate) connections: AtomicUsize,
    /// By worker: the one count that every request moves twice.
    pub(crate) requests: Vec<OwnLine>,
    pub(crate) tunnels: AtomicUsize,
    pub(crate) certificate_waiters: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        listeners: &Listeners,
        events: EventSender,
        access: Option<Writer>,
        inquiries: Vec<mpsc::Sender<Inquiry>>,
    ) -> Shared {
        let own = config.other_listeners.iter().copied().chain(listeners.addresses().map(|(_, address)| address));
        Shared {
            wanted_ports: watch::Sender::default(),
            ports: ArcSwap::default(),
            listeners: own.collect(),
            routes: Snapshot::default(),
            services: ArcSwap::default(),
            tls: Common { certificates: Arc::default(), tickets: Arc::new(Tickets::new()) },
            certificates_changed: watch::Sender::new(0),
            client_certificates: ArcSwap::default(),
            replies: Snapshot::default(),
            tls_answers: watch::Sender::default(),
            events,
            names: OnceLock::new(),
            own_https_port: listeners.https().port(),
            https_port: config.https_port.unwrap_or(listeners.https().port()),
            config,
            counts: Counts {
                connections: AtomicUsize::new(0),
                requests: (0..listeners.workers()).map(|_| OwnLine::default()).collect(),
                tunnels: AtomicUsize::new(0),
                certificate_waiters: AtomicUsize::new(0),
            },
            access,
            inquiries,
        }
    }

    /// The port that clients name who came to this one over TLS, as far as that is known: what is forwarded to the https
    /// listener came to the port that redirects name.
    pub(crate) fn named_port(&self, local: u16) -> u16 {
        if local == self.own_https_port { self.https_port } else { local }
    }
}
