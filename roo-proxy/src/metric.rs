//! What is counted, through the `metrics` facade. Labels are bounded: origins as configured, known
//! methods, protocol versions, status codes.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Version;
use metrics::{Counter, Gauge, Histogram, Unit};

use crate::map::Map;
use crate::origin::Scheme;
use crate::table::Entry;
use crate::upstream::Up;

const REQUESTS: &str = "roo_requests_total";
const REQUEST_DURATION: &str = "roo_request_duration_seconds";
const OPEN_CONNECTIONS: &str = "roo_open_connections";
const HANDSHAKES: &str = "roo_tls_handshakes_total";
const FLOODS: &str = "roo_http2_floods_total";
const ROUTE_PORTS: &str = "roo_route_ports";
const UPSTREAM_DURATION: &str = "roo_upstream_duration_seconds";
const UPSTREAM_RETRIES: &str = "roo_upstream_retries_total";
const UPSTREAM_EJECTIONS: &str = "roo_upstream_ejections_total";
const UPSTREAM_UP: &str = "roo_upstream_up";
const ACCESS_LINES_LOST: &str = "roo_access_log_lost_total";

/// Gives the recorder the help texts. Idempotent.
pub(crate) fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests by route, status code, method and protocol version");
    metrics::describe_histogram!(REQUEST_DURATION, Unit::Seconds, "From request head to the end of the response");
    metrics::describe_gauge!(OPEN_CONNECTIONS, "Open client connections by listener");
    metrics::describe_counter!(HANDSHAKES, "TLS handshakes by result");
    metrics::describe_counter!(FLOODS, "HTTP/2 connections closed for frames that lead to nothing");
    metrics::describe_gauge!(ROUTE_PORTS, "Ports that routes name and no listener has, by what became of them");
    metrics::describe_histogram!(UPSTREAM_DURATION, Unit::Seconds, "From sending a request to its response head");
    metrics::describe_counter!(UPSTREAM_RETRIES, "Requests sent again to another connection");
    metrics::describe_counter!(UPSTREAM_EJECTIONS, "Instances taken out of the rotation for their failures");
    metrics::describe_gauge!(UPSTREAM_UP, "Instances that take requests, without those that are ejected");
    metrics::describe_counter!(ACCESS_LINES_LOST, "Lines of the access log that could not be written");
}

/// Lines that the disk did not take.
pub(crate) fn access_lines_lost(lines: u64) {
    metrics::counter!(ACCESS_LINES_LOST).increment(lines);
}

/// Tells how many ports routes have opened, and how many could not be.
pub(crate) fn route_ports(open: usize, failed: usize) {
    metrics::gauge!(ROUTE_PORTS, "state" => "open").set(open as f64);
    metrics::gauge!(ROUTE_PORTS, "state" => "failed").set(failed as f64);
}

/// The handles of one route, registered when it serves its first request.
pub(crate) struct RouteMeasures {
    duration: Histogram,
    pub(crate) upstream_duration: Histogram,
    pub(crate) retries: Counter,
    pub(crate) ejections: Counter,
    up: Gauge,
}

impl RouteMeasures {
    pub(crate) fn new(origin: &Arc<str>) -> RouteMeasures {
        RouteMeasures {
            duration: metrics::histogram!(REQUEST_DURATION, "route" => origin.clone()),
            upstream_duration: metrics::histogram!(UPSTREAM_DURATION, "route" => origin.clone()),
            retries: metrics::counter!(UPSTREAM_RETRIES, "route" => origin.clone()),
            ejections: metrics::counter!(UPSTREAM_EJECTIONS, "route" => origin.clone()),
            up: metrics::gauge!(UPSTREAM_UP, "route" => origin.clone()),
        }
    }

    /// Who is in has changed.
    pub(crate) fn up(&self, up: Up) {
        self.up.set(up.0 as f64);
    }
}

/// The handles of one worker: a request finds its counter by a small key, without a lock and without
/// building labels.
pub(crate) struct Measures {
    requests: RefCell<Map<RequestKey, Requests>>,
    unrouted_duration: Histogram,
    open: [Gauge; 2],
    handshakes: [Counter; 6],
    floods: Counter,
}

/// One exchange that has ended.
pub(crate) struct Exchange<'a> {
    pub(crate) entry: Option<&'a Arc<Entry>>,
    pub(crate) status: u16,
    pub(crate) method: MethodLabel,
    pub(crate) protocol: ProtocolLabel,
    pub(crate) duration: Duration,
}

#[derive(PartialEq, Eq, Hash)]
struct RequestKey {
    /// Zero for requests without a route.
    entry: u64,
    status: u16,
    method: MethodLabel,
    protocol: ProtocolLabel,
}

/// Requests of one kind on one route.
struct Requests {
    /// Dead once the route is gone; never alive for requests without one.
    entry: Weak<Entry>,
    counter: Counter,
}

/// Routes that are gone pile up until the next sweep.
const REQUEST_KEYS_MAX: usize = 16 * 1024;
/// The `route` of requests that have none.
const UNROUTED: &str = "-";

impl Measures {
    pub(crate) fn new() -> Measures {
        let open = |listener| metrics::gauge!(OPEN_CONNECTIONS, "listener" => listener);
        let handshake = |result: Handshake| metrics::counter!(HANDSHAKES, "result" => result.label());
        Measures {
            requests: RefCell::default(),
            unrouted_duration: metrics::histogram!(REQUEST_DURATION, "route" => UNROUTED),
            open: [open("http"), open("https")],
            handshakes: Handshake::ALL.map(handshake),
            floods: metrics::counter!(FLOODS),
        }
    }

    pub(crate) fn exchange(&self, exchange: &Exchange<'_>) {
        let seconds = exchange.duration.as_secs_f64();
        match exchange.entry {
            Some(entry) => entry.measures().duration.record(seconds),
            None => self.unrouted_duration.record(seconds),
        }
        let key = RequestKey {
            entry: exchange.entry.map_or(0, |entry| entry.id),
            status: exchange.status,
            method: exchange.method,
            protocol: exchange.protocol,
        };
        let mut requests = self.requests.borrow_mut();
        if requests.len() >= REQUEST_KEYS_MAX {
            requests.clear();
        }
        requests.entry(key).or_insert_with(|| Requests::of(exchange)).counter.increment(1);
    }

    pub(crate) fn open(&self, scheme: Scheme) -> &Gauge {
        match scheme {
            Scheme::Http => &self.open[0],
            Scheme::Https => &self.open[1],
        }
    }

    pub(crate) fn handshake(&self, result: Handshake) {
        self.handshakes[result as usize].increment(1);
    }

    /// A connection of HTTP/2 was closed for flooding.
    pub(crate) fn flood(&self) {
        self.floods.increment(1);
    }

    /// Forgets the handles of routes that are gone.
    pub(crate) fn sweep(&self) {
        self.requests.borrow_mut().retain(|key, requests| key.entry == 0 || requests.entry.strong_count() > 0);
    }
}

impl Requests {
    fn of(exchange: &Exchange<'_>) -> Requests {
        let route = exchange.entry.map_or_else(|| UNROUTED.into(), |entry| entry.origin.clone());
        let counter = metrics::counter!(
            REQUESTS,
            "route" => route,
            "code" => exchange.status.to_string(),
            "method" => exchange.method.name(),
            "proto" => exchange.protocol.name()
        );
        Requests { entry: exchange.entry.map_or_else(Weak::new, Arc::downgrade), counter }
    }
}

/// A method by its name if it is a usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MethodLabel(u8);

impl MethodLabel {
    const NAMES: [&'static str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "OTHER"];

    pub(crate) fn of(method: &str) -> MethodLabel {
        if method == "GET" {
            // By far the most.
            return MethodLabel(0);
        }
        let usual = MethodLabel::NAMES.iter().position(|usual| *usual == method);
        MethodLabel(usual.unwrap_or(MethodLabel::NAMES.len() - 1) as u8)
    }

    fn name(self) -> &'static str {
        MethodLabel::NAMES[usize::from(self.0)]
    }
}

/// The client's protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProtocolLabel {
    Http10,
    Http11,
    Http2,
}

impl ProtocolLabel {
    pub(crate) fn of(version: Version) -> ProtocolLabel {
        match version {
            Version::HTTP_10 => ProtocolLabel::Http10,
            Version::HTTP_2 => ProtocolLabel::Http2,
            _ => ProtocolLabel::Http11,
        }
    }

    fn name(self) -> &'static str {
        match self {
            ProtocolLabel::Http10 => "1.0",
            ProtocolLabel::Http11 => "1.1",
            ProtocolLabel::Http2 => "2",
        }
    }
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    Done,
    /// No SNI, or a name without a route.
    UnknownName,
    /// A routed name whose certificate did not come.
    NoCertificate,
    /// The client broke off, or the two found no common ground.
    Failed,
    Timeout,
    /// The CA was shown the answer to its challenge.
    AcmeTls,
}

impl Handshake {
    const ALL: [Handshake; 6] = [
        Handshake::Done,
        Handshake::UnknownName,
        Handshake::NoCertificate,
        Handshake::Failed,
        Handshake::Timeout,
        Handshake::AcmeTls,
    ];

    fn label(self) -> &'static str {
        match self {
            Handshake::Done => "done",
            Handshake::UnknownName => "unknown-name",
            Handshake::NoCertificate => "no-certificate",
            Handshake::Failed => "failed",
            Handshake::Timeout => "timeout",
            Handshake::AcmeTls => "acme-tls",
        }
    }
}
