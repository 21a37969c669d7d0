//! What a proxy is started with. Every bound has its default here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::access::AccessLog;
use crate::trace::TraceContext;

/// Settings of one proxy, fixed from start to end.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How long a handshake for a routed name waits for a certificate that is not there yet. Default
    /// 20 s; zero ends such handshakes at once.
    pub certificate_wait: Duration,
    /// The DNS server for upstream names, such as Docker's `127.0.0.11:53`; `None` takes the system's.
    pub resolver: Option<SocketAddr>,
    /// Peers whose `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and `X-Request-Id` are believed. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers that say with a PROXY header, version 1 or 2, whose connection theirs stands for: from them it must come
    /// first, within [`Timeouts::header`], from all others it must not. From then on the peer is whom it names, for
    /// [`Config::trusted_proxies`] too. Default none.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Whether connections wait in the kernel until [`Proxy::open`](crate::Proxy::open): for one that is to have its
    /// snapshots first. Default false.
    pub opens_later: bool,
    /// Whether a port that the origin of a route names is listened on while there is such a route, on the addresses of the
    /// scheme's listeners. Default false: clients may come through ports that are forwarded.
    pub opens_ports: bool,
    /// Where this process listens besides the proxy. No upstream is connected to there, nor at the proxy's own listeners,
    /// unless its route allows the address. Default none.
    pub other_listeners: Vec<SocketAddr>,
    /// Directories whose sockets destinations such as `unix:/run/app.sock` may name, deep below as well. Default
    /// none: a socket may be a door to the whole machine, as that of a container engine is.
    pub unix_upstreams: Vec<PathBuf>,
    /// The port that redirects to https name, and whose route says what is asked of handshakes at the https listener;
    /// `None` takes the listener's own.
    pub https_port: Option<u16>,
    /// The log of requests. Default none.
    pub access_log: Option<AccessLog>,
    /// What becomes of W3C trace context. Default: each request is part of a trace, and new traces are sampled.
    pub trace_context: TraceContext,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            certificate_wait: Duration::from_secs(20),
            resolver: None,
            trusted_proxies: Vec::new(),
            proxy_protocol_from: Vec::new(),
            opens_later: false,
            opens_ports: false,
            other_listeners: Vec::new(),
            unix_upstreams: Vec::new(),
            https_port: None,
            access_log: None,
            trace_context: TraceContext::default(),
        }
    }
}

/// Bounds on what clients may use. Zero is raised to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections over all workers and both listeners. Default 20,000. One more is answered
    /// 503 on the plain listener and closed on the other.
    pub connections: usize,
    /// Bytes of all header fields of one request, names and values. Default 64 KiB; more answers 431.
    pub header_bytes: usize,
    /// Requests at the same time on one HTTP/2 connection. Default 128.
    pub streams: u32,
    /// Handshakes that wait for a certificate at the same time. Default 1,024; one more is ended.
    /// One route has at most 64 of them.
    pub certificate_waiters: usize,
    /// Idle upstream connections kept per worker and upstream address. Default 64.
    pub idle_upstream_connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            header_bytes: 64 * 1024,
            streams: 128,
            certificate_waiters: 1_024,
            idle_upstream_connections: 64,
        }
    }
}

/// How long each step may take. Nothing limits a whole body or a whole connection: what moves, lives.
/// All but `handshake` and `connect` are checked by a sweep and may end up to a second late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A TLS handshake, apart from waiting for a certificate. Default 10 s.
    pub handshake: Duration,
    /// The first byte on a plain connection, and a request head from its first byte to its end. Default 10 s.
    pub header: Duration,
    /// A client connection between two requests. Default 60 s.
    pub idle: Duration,
    /// A body, either direction, without a byte moved. Default 60 s.
    pub body: Duration,
    /// An upgraded connection without a byte moved. Default 1 h.
    pub tunnel: Duration,
    /// Resolving and connecting to an upstream, TLS included. Default 5 s; a route may set its own.
    pub connect: Duration,
    /// From the last byte of the request to the response head. Default 60 s; a route may set its own.
    pub response: Duration,
    /// An upstream connection unused in the pool. Default 55 s, below the 60 s of common servers.
    pub idle_upstream: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(60),
            tunnel: Duration::from_secs(60 * 60),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            idle_upstream: Duration::from_secs(55),
        }
    }
}
