//! The API on port 6299: one file per resource.

mod access;
mod ca;
mod certs;
mod debug;
mod error;
mod health;
mod kv;
mod metrics;
mod nodes;
mod routes;
mod status;
mod swarm;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use access::Policy;
use error::ApiError;

use crate::app::{CertificateBook, RouteBook, SwarmBook, Vault};

/// What the handlers work on. Everything in it is cheap to clone or shared.
pub(crate) struct Api {
    pub(crate) store: roo_kv::Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) control: roo_proxy::Control,
    pub(crate) routes: RouteBook,
    pub(crate) certificates: CertificateBook,
    pub(crate) swarm: Option<SwarmBook>,
    pub(crate) metrics: metrics_exporter_prometheus::PrometheusHandle,
    pub(crate) policy: Policy,
    pub(crate) debug: bool,
    /// Places for watchers.
    pub(crate) watchers: Arc<Semaphore>,
    /// The listeners, by name, for the status page.
    pub(crate) listeners: Vec<(&'static str, SocketAddr)>,
    /// Cancelled when the node begins to stop: it is not ready from then on.
    pub(crate) stopping: CancellationToken,
}

/// How many watches of the store a node serves at a time.
pub(crate) const WATCHERS_MAX: usize = 1024;

type Shared = axum::extract::State<Arc<Api>>;

/// Serves the API on `listener` until `shutdown`, then lets open requests finish.
pub(crate) async fn serve(listener: TcpListener, api: Arc<Api>, shutdown: CancellationToken) -> std::io::Result<()> {
    let service = router(api).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(api: Arc<Api>) -> Router {
    let open = Router::new()
        .route("/roo/ping", get(health::ping))
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/roo/v1", axum::routing::options(status::options));
    let read = Router::new()
        .route("/metrics", get(metrics::render))
        .route("/roo/v1/status", get(status::show))
        .route("/roo/v1/kvs", get(kv::scan_all))
        .route("/roo/v1/kvs/", get(kv::scan_all))
        .route("/roo/v1/kvs/{*prefix}", get(kv::scan))
        .route("/roo/v1/watch", get(watch::all))
        .route("/roo/v1/watch/", get(watch::all))
        .route("/roo/v1/watch/{*prefix}", get(watch::prefix))
        .route("/roo/v1/routes", get(routes::list))
        .route("/roo/v1/certs", get(certs::list))
        .route("/roo/v1/nodes", get(nodes::list))
        .route("/roo/v1/ca", get(ca::root))
        .layer(middleware::from_fn_with_state(api.clone(), access::may_read));
    let write = Router::new()
        .route("/roo/v1/swarm", post(swarm::rescan))
        .route("/debug/pprof", get(debug::index))
        .route("/debug/pprof/", get(debug::index))
        .route("/debug/pprof/profile", get(debug::profile))
        .route("/debug/pprof/heap", get(debug::heap))
        .layer(middleware::from_fn_with_state(api.clone(), access::may_write));
    let key = get(kv::read).put(kv::write).delete(kv::delete);
    let kv = Router::new()
        .route("/roo/v1/kv", key.clone())
        .route("/roo/v1/kv/", key.clone())
        .route("/roo/v1/kv/{*key}", key)
        .layer(DefaultBodyLimit::max(roo_kv::VALUE_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), access::by_method));
    open.merge(read)
        .merge(write)
        .merge(kv)
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn(error::finish))
        .with_state(api)
}
