//! The API on port 6299: one file per resource.

mod access;
mod access_log;
mod accounts;
mod audit;
mod backup;
mod body;
mod ca;
mod certs;
mod client_certificates;
mod condition;
mod debug;
mod entry;
mod error;
mod explain;
mod health;
mod key;
mod kv;
mod lease;
mod live;
mod metrics;
mod nodes;
mod query;
mod rescue;
mod rights;
mod routes;
mod secret;
mod server;
mod services;
mod stall;
mod status;
mod swarm;
mod tls;
mod tokens;
mod txn;
mod upgrade;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub(crate) use access::Policy;
pub(crate) use audit::AuditLog;
use error::ApiError;
pub(crate) use rights::{Rights, Scope};
pub(crate) use tls::ApiTls;

use crate::app::{
    CatalogBook, CertificateBook, ClientCertificateBook, Registrar, Rotation, RouteBook, SwarmBook, UpgradeRequest,
    Vault,
};
use crate::metrics::Metrics;

/// What the handlers work on. Everything in it is cheap to clone or shared.
pub(crate) struct Api {
    pub(crate) store: roo_kv::Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) control: roo_proxy::Control,
    pub(crate) routes: RouteBook,
    pub(crate) catalog: CatalogBook,
    pub(crate) registrar: Registrar,
    pub(crate) certificates: CertificateBook,
    /// Who signs certificates, and how it is asked.
    pub(crate) authority: roo_acme::Authority,
    pub(crate) issuing: roo_acme::Settings,
    pub(crate) client_certificates: ClientCertificateBook,
    pub(crate) swarm: Option<SwarmBook>,
    pub(crate) metrics: Metrics,
    pub(crate) policy: Policy,
    pub(crate) rotation: Rotation,
    pub(crate) audit: AuditLog,
    pub(crate) debug: bool,
    /// Places for watchers.
    pub(crate) watchers: Arc<Semaphore>,
    /// The listeners, by name, for the status page.
    pub(crate) listeners: Vec<(&'static str, SocketAddr)>,
    /// Cancelled when the node begins to stop: it is not ready from then on.
    pub(crate) stopping: CancellationToken,
    /// Asks for another process to take over.
    pub(crate) upgrades: mpsc::Sender<UpgradeRequest>,
}

/// How many watches of the store a node serves at a time. Each is a connection with its buffers; what it is sent is shared.
pub(crate) const WATCHERS_MAX: usize = 16_384;

type Shared = axum::extract::State<Arc<Api>>;

/// Serves the API on `listener`, over TLS if there is a certificate, until `shutdown`, then lets open requests finish.
pub(crate) async fn serve(listener: TcpListener, api: Arc<Api>, tls: Option<ApiTls>, shutdown: CancellationToken) {
    let tls = tls.map(|certificate| {
        let refusal = Router::new().fallback(error::tls_needed).layer(middleware::from_fn(error::finish));
        server::Tls { certificate, refusal }
    });
    server::serve(listener, server::Server::new(router(api), tls), shutdown).await;
}

fn router(api: Arc<Api>) -> Router {
    let open = Router::new()
        .route("/roo/ping", get(health::ping))
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/roo/v1", axum::routing::options(status::options));
    let reading = Router::new()
        .route("/metrics", get(metrics::render))
        .route("/roo/v1/status", get(status::show))
        .route("/roo/v1/routes", get(routes::list))
        .route("/roo/v1/explain", get(explain::explain))
        .route("/roo/v1/certs", get(certs::list))
        .route("/roo/v1/certs/{name}", get(certs::show))
        .route("/roo/v1/nodes", get(nodes::list))
        .route("/roo/v1/ca", get(ca::root))
        .route("/roo/v1/ca/facts", get(ca::facts))
        .route("/roo/v1/kvs", get(kv::scan_all))
        .route("/roo/v1/kvs/", get(kv::scan_all))
        .route("/roo/v1/kvs/{*prefix}", get(kv::scan))
        .route("/roo/v1/watch", get(watch::all))
        .route("/roo/v1/watch/", get(watch::all))
        .route("/roo/v1/watch/{*prefix}", get(watch::prefix))
        .layer(middleware::from_fn_with_state(api.clone(), access::identified));
    let admin = Router::new()
        .route("/roo/v1/swarm", get(swarm::show).post(swarm::rescan))
        .route("/roo/v1/access-log/reopen", post(access_log::reopen))
        .route("/roo/v1/connections", get(live::connections))
        .route("/roo/v1/upstreams", get(live::upstreams))
        .route("/roo/v1/tokens", get(tokens::list).post(tokens::add))
        .route("/roo/v1/tokens/{name}", delete(tokens::remove))
        .route("/roo/v1/certs", put(certs::import))
        .route("/roo/v1/certs/{name}", delete(certs::remove))
        .route("/roo/v1/certs/{name}/renew", post(certs::renew))
        .route("/roo/v1/certs/{name}/revoke", post(certs::revoke))
        .route("/roo/v1/accounts/rollover", post(accounts::roll_over))
        .route("/roo/v1/client-certificates", get(client_certificates::list))
        .route("/roo/v1/client-certificates/{name}", put(client_certificates::put).delete(client_certificates::remove))
        .route("/roo/v1/secret", get(secret::show).post(secret::change))
        .route("/roo/v1/secret/finish", post(secret::finish))
        .route("/roo/v1/nodes/{id}", delete(nodes::remove))
        .route("/roo/v1/nodes/{id}/promote", post(nodes::promote))
        .route("/roo/v1/nodes/{id}/demote", post(nodes::demote))
        .route("/roo/v1/nodes/{id}/transfer", post(nodes::transfer))
        .route("/roo/v1/nodes/transfer", post(nodes::transfer_to_any))
        .route("/roo/v1/remove", post(nodes::remove_named))
        .route("/roo/v1/rescue", post(rescue::rescue))
        .route("/roo/v1/upgrade", post(upgrade::upgrade))
        .route("/roo/v1/backup", get(backup::take))
        .route("/roo/v1/restore", post(backup::restore))
        .route("/debug/pprof", get(debug::index))
        .route("/debug/pprof/", get(debug::index))
        .route("/debug/pprof/profile", get(debug::profile))
        .route("/debug/pprof/heap", get(debug::heap))
        .layer(middleware::from_fn_with_state(api.clone(), access::administers));
    let exports = Router::new()
        .route("/roo/v1/certs/{name}/export", get(certs::export))
        .layer(middleware::from_fn_with_state(api.clone(), access::exports));
    let key = get(kv::read).put(kv::write).delete(kv::delete);
    let kv = Router::new()
        .route("/roo/v1/kv", key.clone())
        .route("/roo/v1/kv/", key.clone())
        .route("/roo/v1/kv/{*key}", key)
        .layer(DefaultBodyLimit::max(roo_kv::VALUE_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), access::identified));
    let instance = get(services::show).put(services::register).patch(services::mark).delete(services::remove);
    let services = Router::new()
        .route("/roo/v1/services", get(services::list))
        .route("/roo/v1/services/{service}", get(services::instances))
        .route("/roo/v1/services/{service}/{instance}", instance)
        .layer(DefaultBodyLimit::max(roo_discovery::RECORD_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), access::identified));
    let txn = Router::new()
        .route("/roo/v1/txn", post(txn::run))
        .layer(DefaultBodyLimit::max(txn::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), access::identified));
    let leases = Router::new()
        .route("/roo/v1/leases", get(lease::list).post(lease::grant))
        .route("/roo/v1/leases/{id}", get(lease::show).delete(lease::revoke))
        .route("/roo/v1/leases/{id}/keepalive", post(lease::keep_alive))
        .layer(middleware::from_fn_with_state(api.clone(), access::identified));
    open.merge(reading)
        .merge(admin)
        .merge(exports)
        .merge(kv)
        .merge(services)
        .merge(txn)
        .merge(leases)
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn(error::finish))
        .with_state(api)
}
