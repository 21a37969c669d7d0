//! One running node: everything started in order, watched, and stopped in order.

mod bound;
pub(super) mod upgrade;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use roo_acme::{Authority, Issuer, Names};
use roo_kv::{Orchestrator, Peers, Secret, Store};
use roo_proxy::{AccessLog, Control, Events, Proxy};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::handover::{Handed, Named, Waiting};
use super::orchestrator::Swarm;
use super::signals::{self, Stop, Upgrade};
use super::supervisor;
use super::{
    CatalogBook, CertificateBook, Registrar, Rotation, RouteBook, TokenBook, Vault, answers, catalog, certificates,
    certs_dir, client_certificates, routes, swarm, tickets, wishes,
};
use crate::api::{self, Api, ApiTls, AuditLog, Policy};
use crate::cli::Failure;
use crate::config::{Config, Mode};
use crate::keys;
use crate::metrics::Metrics;
use bound::Bound;

/// How long the API's open requests and the issuer may take after the drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the store may take to hand leadership over and flush. All together stays below the stack file's 35 s.
const STORE_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process that takes over may load routes and certificates.
const LOAD_TIMEOUT: Duration = Duration::from_secs(50);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Names asked for in handshakes that wait to be passed on to the issuer.
const NUDGES_MAX: usize = 64;

/// What comes after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    End,
    /// The same process once more, from its beginning.
    Restart,
}

/// A node that serves.
pub(super) struct Node {
    mode: Mode,
    /// How long open requests get in the end.
    drain_timeout: Duration,
    data_dir: PathBuf,
    listeners: Vec<(&'static str, SocketAddr)>,
    store: Store,
    vault: Arc<Vault>,
    proxy: Proxy,
    https: SocketAddr,
    certificates: CertificateBook,
    internal: bool,
    stopping: CancellationToken,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// The sockets of API and Raft once more.
    copies: Vec<Named>,
    upgrades: mpsc::Receiver<upgrade::Request>,
}

impl Node {
    /// Binds the ports, opens the store and starts everything else over it.
    ///
    /// # Errors
    /// Says which port, flag or file is in the way.
    pub(super) async fn start(config: Config, mode: Mode, before: Before) -> Result<Self, Failure> {
        let Before { handed, mut waiting } = before;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let metrics = Metrics::install().map_err(|error| Failure::Failed(format!("can't set up metrics: {error}")))?;
        let reopen = signals::reopen()?;
        if config.debug {
            crate::profile::start_heap().await;
        }
        let bound = Bound::bind(&config, handed)?;
        let secret = secret(&config)?;
        let orchestrator = orchestrator(&config);
        let enforced = config.secret.is_some() || config.token.is_some();
        let former = former_secret(&config)?.map(|secret| secret.sealer());
        let has_former = former.is_some();
        let listeners = bound.addresses();
        let https = bound.proxy.https();
        if let Some(waiting) = &mut waiting {
            waiting.store().await?;
        }
        let store = Store::start(roo_kv::Config {
            data_dir: config.data_dir.clone(),
            listener: bound.raft,
            advertise: config.advertise,
            secret,
            orchestrator,
            peers: config.peers,
            start_delay: config.start_delay,
            expect: config.expect,
            dead_after: config.dead_after,
            voters_max: config.voters_max,
            is_negligible: keys::is_made_anew,
        })
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?;

        let internal = config.authority == Authority::Internal;
        let vault = Arc::new(Vault::new(store.clone(), former, internal));
        if store.keyring().was_given_an_outdated_one() && config.secret.is_some() {
            tracing::warn!(
                data_dir = %config.data_dir.display(),
                "the secret that was given has been replaced; this node goes by the new one from its data directory. Give \
                 it the new one: `roo secret show --data-dir` prints it"
            );
        }
        if has_former {
            seal_anew(&store, vault.clone());
        }
        let access_log =
            config.access_log.map(|log| AccessLog { node: store.status().node_id.to_string().into(), ..log });
        let proxy_config = roo_proxy::Config {
            access_log,
            trace_context: config.trace,
            resolver: config.resolver,
            https_port: config.published_https,
            trusted_proxies: config.trusted_proxies,
            opens_later: waiting.is_some(),
            opens_ports: config.route_ports,
            proxy_protocol_from: config.proxy_protocol_from,
            other_listeners: vec![bound.api_address, bound.raft_address],
            unix_upstreams: config.unix_upstreams,
            limits: config.limits,
            timeouts: config.timeouts,
            ..roo_proxy::Config::default()
        };
        let (proxy, events) = Proxy::start(bound.proxy, proxy_config)
            .map_err(|error| Failure::Failed(format!("can't start the proxy: {error}")))?;
        let control = proxy.control();
        let (stopping, shutdown) = (CancellationToken::new(), CancellationToken::new());

        let (wanted_sender, wanted) = watch::channel(Names::default());
        let wishes = wishes::follow(&store, vault.clone());
        let certificates =
            certificates::publish(&store, vault.clone(), control.clone(), wanted.clone(), wishes.clone());
        let client_certificates = client_certificates::publish(&store, vault.clone(), control.clone());
        answers::publish(&store, control.clone());
        tickets::publish(&store, vault.clone(), control.clone());
        let routes = routes::publish(&store, control.clone(), wanted_sender);
        let catalog = catalog::publish(&store, control.clone());
        let rotation = Rotation::follow(&store, vault.clone(), shutdown.clone());
        let tokens = TokenBook::follow(&store, vault.clone());
        let swarm = config.swarm.then(|| swarm::publish(config.docker, store.clone(), &routes, shutdown.clone()));

        let tls = config.api_tls.then(|| ApiTls::new(store.clone(), bound.api_address)).transpose();
        let tls = tls.map_err(|error| Failure::Failed(format!("can't make a certificate for the API: {error}")))?;
        let nudges = nudges(events);
        let (upgrade_sender, upgrades) = upgrade::channel();
        let loading = (routes.clone(), catalog.clone(), certificates.clone());
        let issuing = roo_acme::Settings {
            retire_after: config.retire_after,
            keys: config.keys,
            ..roo_acme::Settings::default()
        };
        let authority = config.authority;
        let issuer = Issuer::new(vault.clone(), authority.clone(), wanted, certificates.inventory(), nudges)
            .with_wishes(wishes)
            .with_settings(issuing.clone());
        let mut tasks = vec![
            tokio::spawn(issue(issuer, loading.clone(), shutdown.clone())),
            serve_api(
                bound.api,
                Api {
                    store: store.clone(),
                    vault: vault.clone(),
                    control: control.clone(),
                    routes,
                    catalog,
                    registrar: Registrar::new(store.clone()),
                    certificates: certificates.clone(),
                    authority,
                    issuing,
                    client_certificates,
                    swarm,
                    metrics,
                    policy: Policy { token: config.token, keyring: Arc::clone(store.keyring()), enforced, tokens },
                    rotation,
                    audit: AuditLog::start(&config.audit),
                    debug: config.debug,
                    watchers: Arc::new(Semaphore::new(api::WATCHERS_MAX)),
                    listeners: listeners.clone(),
                    stopping: stopping.clone(),
                    upgrades: upgrade_sender,
                },
                tls.clone(),
                shutdown.clone(),
            ),
        ];
        tasks.push(tokio::spawn(reopen_when_asked(reopen, control, shutdown.clone())));
        tasks.extend(tls.map(|tls| tokio::spawn(tls.keep(shutdown.clone()))));
        let places = certs_dir::Place::all(config.certs_dir);
        let files = certs_dir::follow(places, store.clone(), vault.clone(), shutdown.clone());
        tasks.push(tokio::spawn(files));
        tasks.push(tokio::spawn(certificates.clone().warn_of_ends(shutdown.clone())));
        if let Some(waiting) = waiting {
            // Not a connection before it can be served as the process before did.
            loaded(loading).await?;
            proxy.open();
            waiting.ready().await?;
        }
        let data_dir = config.data_dir;
        Ok(Self {
            mode,
            drain_timeout: config.drain_timeout,
            data_dir,
            listeners,
            store,
            vault,
            proxy,
            https,
            certificates,
            internal,
            stopping,
            shutdown,
            tasks,
            copies: bound.copies,
            upgrades,
        })
    }

    /// Prints what listens where, and tells a supervisor that waits for it.
    pub(super) fn announce(&self) {
        for (name, address) in &self.listeners {
            tracing::info!(listener = name, %address, "listening");
        }
        supervisor::tell(NotifyState::Ready);
    }

    pub(super) fn listeners(&self) -> &[(&'static str, SocketAddr)] {
        &self.listeners
    }

    pub(super) fn https(&self) -> SocketAddr {
        self.https
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn vault(&self) -> &Vault {
        &self.vault
    }

    pub(super) fn certificates(&self) -> &CertificateBook {
        &self.certificates
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whether certificates come from the cluster's own CA.
    pub(super) fn issues_itself(&self) -> bool {
        self.internal
    }

    /// Waits until the store can be read and written.
    pub(super) async fn ready(&self) {
        let mut status = self.store.status_changes();
        // An error means that the store has stopped, which ends the node elsewhere.
        let _ = status.wait_for(roo_kv::Status::is_ready).await;
    }

    /// Runs until asked to stop, or until it can't go on; drains in either case.
    pub(super) async fn run_until(mut self, mut stop: Stop) -> Result<Next, Failure> {
        let store = self.store.clone();
        let mut failed = pin!(store.failed());
        let mut by_signal = Upgrade::listen()?;
        let outcome = loop {
            let asked_by = tokio::select! {
                () = stop.asked() => break Ok(()),
                reason = &mut failed => break Err(format!("the store can't go on: {reason}")),
                () = self.proxy.failed() => break Err("a thread of the proxy has died".to_owned()),
                () = by_signal.asked() => None,
                Some(request) = self.upgrades.recv() => Some(request),
            };
            let begun = tokio::select! {
                begun = self.begin_upgrade() => begun,
                () = stop.asked() => break Ok(()),
            };
            let answer = begun.as_ref().map(|giver| giver.version.clone()).map_err(Clone::clone);
            // Who asked may be gone.
            let _ = asked_by.map(|request| request.send(answer));
            match begun {
                Ok(giver) => {
                    let drain = self.drain_timeout;
                    return self.hand_over(giver, stop, drain).await;
                }
                Err(reason) => tracing::error!(reason, "no upgrade; this process goes on"),
            }
        };
        if outcome.is_err() && store.wants_restart() {
            tracing::warn!("the node ends and starts again");
            tokio::select! {
                () = self.stop() => return Ok(Next::Restart),
                () = stop.asked() => return Ok(Next::End),
            }
        }
        if let Err(reason) = &outcome {
            tracing::error!(reason, "the node ends; start it again");
        }
        tokio::select! {
            () = self.stop() => outcome.map(|()| Next::End).map_err(|reason| Failure::Failed(format!("{reason}; start the node again"))),
            () = stop.asked() => Err(Failure::Failed("stopped at once by a second signal".to_owned())),
        }
    }

    async fn stop(self) {
        let drain = self.drain_timeout;
        drop(self.copies);
        tracing::info!("stopping: open requests get {} s", drain.as_secs());
        self.stopping.cancel();
        self.proxy.shutdown(drain).await;
        self.shutdown.cancel();
        let rest = async {
            for task in self.tasks {
                // A task that panicked has said so; nothing is left to do for it.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, rest).await.is_err() {
            tracing::debug!("a task did not end in time");
        }
        if tokio::time::timeout(STORE_STOP_TIMEOUT, self.store.shutdown()).await.is_err() {
            tracing::warn!("the store did not stop in time; its log is on disk");
        }
        tracing::info!("stopped");
    }
}

/// Opens the access log's file anew at each signal, for who moves it away.
async fn reopen_when_asked(mut asked: Signal, control: Control, shutdown: CancellationToken) {
    while let Some(Some(())) = shutdown.run_until_cancelled(asked.recv()).await {
        if !control.reopen_access_log() {
            tracing::warn!("SIGUSR1 opens the access log anew, and this node keeps none; set --access-log");
        }
    }
}

/// What a node begins with: sockets from somebody else, and the line to a process before this one.
#[derive(Default)]
pub(super) struct Before {
    pub(super) handed: Handed,
    pub(super) waiting: Option<Waiting>,
}

/// Issues certificates, once it is known which names want one: before that, all would seem to be of no use any more.
async fn issue(issuer: Issuer<Vault>, books: Books, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = told(&books) => issuer.run(shutdown.clone()).await,
    }
}

/// What the proxy needs for requests.
type Books = (RouteBook, CatalogBook, CertificateBook);

/// Returns when the store has told all of it.
async fn told((routes, catalog, certificates): &Books) {
    while !(routes.is_loaded() && catalog.is_loaded() && certificates.is_loaded()) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits until the proxy has all that requests need.
async fn loaded(books: Books) -> Result<(), Failure> {
    let loading = told(&books);
    let late = |_| Failure::Failed(format!("the store had not told the routes within {} s", LOAD_TIMEOUT.as_secs()));
    tokio::time::timeout(LOAD_TIMEOUT, loading).await.map_err(late)
}

/// The secret of the cluster: a person's, or one that a node made for itself, which on Swarm may give way to that of others.
fn secret(config: &Config) -> Result<Secret, Failure> {
    if let Some(secret) = &config.secret {
        return Ok(secret.clone());
    }
    if config.peers != Peers::Alone && !config.swarm {
        return Err(Failure::Usage(
            "nodes that look for each other (--peers, --dns) must share a secret; make one with \
             `openssl rand -hex 32` and give it to every node: --secret <text>, ROO_SECRET or ROO_SECRET_FILE. Only tasks of \
             a Docker Swarm service need none (--swarm)"
                .to_owned(),
        ));
    }
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|error| Failure::Failed(format!("can't make {}: {error}", config.data_dir.display())))?;
    Secret::load_or_create(&crate::config::secret_path(&config.data_dir)).map_err(|e| Failure::Failed(e.to_string()))
}

/// Who vouches for the other nodes where nobody gave them a secret: the Swarm whose tasks they are.
fn orchestrator(config: &Config) -> Option<Arc<dyn Orchestrator>> {
    let vouched = config.secret.is_none() && config.peers != Peers::Alone && config.swarm;
    vouched.then(|| Arc::new(Swarm(config.docker.clone())) as Arc<dyn Orchestrator>)
}

/// The secret that the node made for itself before a person gave one.
fn former_secret(config: &Config) -> Result<Option<Secret>, Failure> {
    let path = crate::config::secret_path(&config.data_dir);
    if config.secret.is_none() || !path.exists() {
        return Ok(None);
    }
    Secret::load_or_create(&path).map(Some).map_err(|error| Failure::Failed(error.to_string()))
}

/// Brings what an earlier secret has sealed under the one that is given now, once the store is up.
fn seal_anew(store: &Store, vault: Arc<Vault>) {
    let mut status = store.status_changes();
    tokio::spawn(async move {
        while status.wait_for(roo_kv::Status::is_ready).await.is_ok() {
            match vault.seal_anew().await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "what an earlier secret has sealed waits to be sealed anew"),
            }
            tokio::time::sleep(STOP_TIMEOUT).await;
        }
    });
}

/// Passes names that handshakes wait for on to the issuer; drops them when it is busy, for it knows them anyway.
fn nudges(mut events: Events) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(NUDGES_MAX);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                roo_proxy::Event::CertificateWanted { name } => drop(sender.try_send(name.to_string())),
                roo_proxy::Event::ProxyHeaderMissing { peer, why } => {
                    tracing::warn!(%peer, why, "closed: --proxy-protocol-from lists this peer, so it must send a PROXY header");
                }
                roo_proxy::Event::UpstreamForbidden { origin, destination, address, why } => {
                    tracing::warn!(route = %origin, %destination, address, why, "a destination is not connected to");
                }
                other => tracing::debug!(?other, "the proxy reports"),
            }
        }
    });
    receiver
}

fn serve_api(listener: TcpListener, api: Api, tls: Option<ApiTls>, shutdown: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(api::serve(listener, Arc::new(api), tls, shutdown))
}
