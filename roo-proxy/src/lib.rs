//! The data plane of Roo: listeners, TLS, routes, forwarding, upstream pools.
//!
//! A [`Proxy`] is started on bound [`Listeners`] and from then on only handed immutable snapshots
//! through its [`Control`]: a [`RouteTable`], a [`ServiceTable`], [`Certificates`], [`Replies`], [`TlsAnswers`]. It hands out [`Events`].
//! It knows nothing of where snapshots come from.
//!
//! The vocabulary:
//!
//! - An *origin* ([`Origin`]) is what a client asks for: host, port and scheme.
//! - A *destination* ([`Destination`]) is one upstream as written in a route; its name may resolve to
//!   several addresses, and each of them takes part in the rotation.
//! - A *service* is a name under [`SERVICE_SUFFIX`] as the host of a destination. The [`ServiceTable`] has its
//!   *endpoints* ([`Endpoint`]): where each of its instances listens.
//! - A *route* ([`Route`]) leads from one origin to its destinations.
//! - A *worker* is a thread with its own event loop, its own listening sockets and its own pool of
//!   upstream connections; nothing on a request's way is shared with another worker but the snapshots.

// What comes in and goes out.
mod certificate;
mod config;
mod control;
mod destination;
mod event;
mod explain;
mod listener;
mod name;
mod origin;
mod ports;
mod protocol;
mod proxy;
mod replies;
mod route;
mod service;
mod snapshot;
mod table;

// The way of a connection and its requests, in order.
mod thread;
mod worker;

mod connection;
mod proxy_protocol;
mod stream;

mod tls;

mod http1;
mod http2;

mod codec;
mod exchange;
mod target;
mod websocket;

mod forward;

mod upstream;

// What every step may need.
mod access;
mod activity;
mod answer;
mod buffer;
mod failure;
mod grpc;
mod hexadecimal;
mod map;
mod metric;
mod record;
mod request_id;
mod trace;
mod view;

#[cfg(test)]
mod fuzz;

pub use access::{AccessFormat, AccessLog, AccessOnly, AccessTo};
pub use certificate::{CertificateError, Certificates, certified_key};
pub use config::{Config, Limits, Timeouts};
pub use control::{Control, Stats};
pub use destination::{Destination, DestinationError, DestinationHost, SERVICE_SUFFIX};
pub use event::{Event, Events};
pub use explain::{Explanation, Forwarding, InstanceState, InstanceView, Rule};
pub use ipnet::IpNet;
pub use listener::{BindError, Listeners, ListeningSocket};
pub use name::{HostName, HostPattern, NameError};
pub use origin::{Origin, OriginError, Scheme};
pub use ports::{PortFault, Ports};
pub use protocol::Protocol;
pub use proxy::{Proxy, StartError};
pub use proxy_protocol::ProxyProtocol;
pub use replies::{Replies, Reply};
pub use route::{Ejection, Route, RouteError, UpstreamTls, Weighted};
pub use service::{Endpoint, ServiceTable};
pub use table::RouteTable;
pub use tls::{TICKET_LIFE_SECONDS, TicketKeys, TlsPolicy, TlsVersion};
pub use tls::{TlsAnswer, TlsAnswers};
pub use trace::TraceContext;
pub use upstream::balance::Balance;
pub use upstream::identity::ClientCertificates;
pub use view::{ConnectionView, UpstreamView};
