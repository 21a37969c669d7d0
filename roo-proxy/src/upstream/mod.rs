//! The upstream side: which address, which connection, and how it is made.

pub(crate) mod address;
pub(crate) mod connect;
pub(crate) mod connection;
mod guard;
pub(crate) mod names;
pub(crate) mod pick;
pub(crate) mod pool;
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ipnet::IpNet;

use crate::destination::Destination;
use crate::origin::Scheme;
use crate::proxy_protocol::ProxyProtocol;
use crate::route::Route;
use tls::Profile;

/// The destinations of one route, made ready for requests.
pub(crate) struct Upstreams {
    pub(crate) list: Vec<Arc<Upstream>>,
    /// Counts requests; where the rotation stands. Shared by all workers.
    pub(crate) turn: AtomicUsize,
}

/// One destination, made ready.
pub(crate) struct Upstream {
    pub(crate) destination: Destination,
    /// The destination's text, for events and logs.
    pub(crate) url: Arc<str>,
    /// The line of `X-Origin-Host`, for upstreams that rely on it.
    pub(crate) origin_host: String,
    /// How to speak TLS to it, if it is `https`.
    pub(crate) tls: Option<Arc<Profile>>,
    /// The header that each connection begins with.
    pub(crate) send_proxy: Option<ProxyProtocol>,
    /// Where it may lead although nobody else's may.
    pub(crate) allowed_addresses: Vec<IpNet>,
    /// An id of its own if its connections are for nobody else, since it may go where others may not; else zero.
    pub(crate) apart: u64,
}

impl Upstreams {
    pub(crate) fn new(route: &Route) -> Upstreams {
        let list = route.to.iter().map(|destination| Arc::new(Upstream::new(destination, route))).collect();
        Upstreams { list, turn: AtomicUsize::new(0) }
    }
}

impl Upstream {
    fn new(destination: &Destination, route: &Route) -> Upstream {
        static APART: AtomicU64 = AtomicU64::new(1);
        Upstream {
            url: destination.to_string().into(),
            origin_host: format!("x-origin-host: {}\r\n", destination.authority()),
            tls: (destination.scheme == Scheme::Https).then(|| Profile::of(&route.tls, &destination.host)),
            send_proxy: route.send_proxy,
            allowed_addresses: route.allow_addresses.clone(),
            apart: if route.allow_addresses.is_empty() { 0 } else { APART.fetch_add(1, Ordering::Relaxed) },
            destination: destination.clone(),
        }
    }
}
