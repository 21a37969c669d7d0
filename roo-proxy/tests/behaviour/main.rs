//! What the proxy does, seen from both of its ends: real sockets, real TLS, real upstreams.
#![allow(clippy::unwrap_used)]

mod access;
mod acme_tls;
mod addresses;
mod answers;
mod bench;
mod client;
mod client_certificates;
mod client_tls;
mod drain;
mod endings;
mod explain;
mod failures;
mod forwarding;
mod grpc;
mod handshake;
mod hello;
mod http2_upstreams;
mod instances;
mod limits;
mod metrics;
mod names;
mod ports;
mod proxy_protocol;
mod routing;
mod services;
mod trace;
mod upgrades;
mod upstream;
mod view;
