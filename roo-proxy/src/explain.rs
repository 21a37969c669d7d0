//! What would become of a request right now, and why. Asking changes nothing for requests.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::control::{Control, Shared};
use crate::destination::DestinationHost;
use crate::name::{HostName, HostPattern};
use crate::origin::{Origin, Scheme};
use crate::route::Ejection;
use crate::service::ServiceTable;
use crate::table::Entry;
use crate::upstream::balance::Balance;
use crate::upstream::group::{Group, Member, Sources};
use crate::upstream::instance::Chosen;
use crate::upstream::names::{Name, Names};
use crate::upstream::pick::first_answers;
use crate::upstream::{Upstream, Upstreams};

/// Where a request for an origin goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Explanation {
    /// To an instance of a route.
    Forward(Box<Forwarding>),
    /// To https, where the host has a route: 308.
    Redirect {
        /// The port that the redirect names.
        port: u16,
    },
    /// Nowhere: 404, or on https no handshake.
    UnknownHost,
}

/// A route as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forwarding {
    /// The route's origin, in its text form.
    pub origin: String,
    /// Which of its parts made it match.
    pub rule: Rule,
    /// How an instance is chosen.
    pub balance: Balance,
    /// Longest wait for name and connection.
    #[serde(serialize_with = "seconds")]
    pub connect_timeout: Duration,
    /// Longest wait for the response head.
    #[serde(serialize_with = "seconds")]
    pub response_timeout: Duration,
    /// When instances are passed over.
    #[serde(skip)]
    pub ejection: Ejection,
    /// All instances of all destinations, and destinations that have none.
    pub instances: Vec<InstanceView>,
}

/// How a route was found, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The route has this very name, and this port.
    ExactNameAndPort,
    /// The route has this very name, for any port.
    ExactName,
    /// A wildcard stands for the name, and has this port.
    WildcardAndPort,
    /// A wildcard stands for the name, for any port.
    Wildcard,
}

/// One instance, as the proxy sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InstanceView {
    /// The URL in the route.
    pub destination: String,
    /// Where it listens; none where a destination leads to nothing.
    pub address: Option<String>,
    /// Its part of the requests in percent, if nobody is out.
    pub percent: f64,
    /// Whether it gets requests.
    pub state: InstanceState,
    /// Why it is in this state, in words.
    pub why: String,
    /// Requests under way on this node.
    pub requests: usize,
    /// How long it takes to answer of late, where the route goes by that.
    pub latency_seconds: Option<f64>,
}

/// Whether an instance gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// The next request goes to it.
    Picked,
    /// It has its turns.
    Ready,
    /// It is passed over for its failures.
    Ejected,
    /// It has said that it stops.
    Stopping,
    /// Its destination has the weight 0.
    NoWeight,
    /// The destination's name has no address.
    Unresolved,
    /// The destination is a service without an instance.
    NoInstance,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Control {
    /// What would become of a request for this host and port on the listener of this scheme. Takes no turn and touches no
    /// upstream; names that were never asked for are looked up, which may take as long as a connection may. Dropping the
    /// future loses nothing.
    pub async fn explain(&self, scheme: Scheme, host: &HostName, port: Option<u16>) -> Explanation {
        let shared = &self.0;
        let found = shared.routes.load().find(host, port, scheme).cloned();
        if let Some(entry) = found {
            return Explanation::Forward(Box::new(forwarding(shared, &entry).await));
        }
        if scheme == Scheme::Http && shared.routes.load().serves(host, Scheme::Https) {
            return Explanation::Redirect { port: shared.https_port };
        }
        Explanation::UnknownHost
    }
}

async fn forwarding(shared: &Shared, entry: &Entry) -> Forwarding {
    let (route, timeouts) = (&entry.route, &shared.config.timeouts);
    let connect_timeout = route.connect_timeout.unwrap_or(timeouts.connect);
    let group = group(shared, entry, Instant::now() + connect_timeout).await;
    Forwarding {
        origin: entry.origin.to_string(),
        rule: rule(&entry.origin),
        balance: route.balance,
        connect_timeout,
        response_timeout: route.response_timeout.unwrap_or(timeouts.response),
        ejection: route.ejection.clone(),
        instances: views(&entry.upstreams, &group, Instant::now()),
    }
}

fn rule(origin: &str) -> Rule {
    match origin.parse() {
        Ok(Origin { host: HostPattern::Exact(_), port: Some(_), .. }) => Rule::ExactNameAndPort,
        Ok(Origin { host: HostPattern::Wildcard(_), port: Some(_), .. }) => Rule::WildcardAndPort,
        Ok(Origin { host: HostPattern::Wildcard(_), port: None, .. }) => Rule::Wildcard,
        Ok(Origin { host: HostPattern::Exact(_), port: None, .. }) | Err(_) => Rule::ExactName,
    }
}

/// The instances as a request would find them.
async fn group(shared: &Shared, entry: &Entry, deadline: Instant) -> Arc<Group> {
    let renewed = || {
        let services = shared.services.load();
        if let Some(up) = entry.upstreams.renew(&Known { shared, services: &services }) {
            entry.measures().up(up);
        }
        entry.upstreams.group().clone().unwrap_or_default()
    };
    let group = renewed();
    let unanswered = group.unanswered();
    if unanswered.is_empty() {
        return group;
    }
    first_answers(unanswered, deadline).await;
    renewed()
}

/// What the proxy knows of names and services.
struct Known<'a> {
    shared: &'a Shared,
    services: &'a ServiceTable,
}

impl Sources for Known<'_> {
    fn name(&self, text: &Arc<str>) -> Arc<Name> {
        match self.shared.names.get() {
            Some(names) => names.name(text),
            None => Names::unknown(text),
        }
    }

    fn services(&self) -> &ServiceTable {
        self.services
    }
}

fn views(upstreams: &Upstreams, group: &Group, now: Instant) -> Vec<InstanceView> {
    let picked = group.expected(upstreams.balance, upstreams.turn(), |_| true);
    let total: f64 = group.members.iter().map(|member| f64::from(member.share)).sum();
    let mut views = Vec::new();
    for upstream in &upstreams.list {
        let before = views.len();
        for member in group.members.iter().filter(|member| Arc::ptr_eq(&member.instance.upstream, upstream)) {
            let chosen = picked.filter(|(picked, _)| std::ptr::eq(*picked, member)).map(|(_, chosen)| chosen);
            let (state, why) = state(upstreams, member, chosen, now);
            views.push(InstanceView {
                destination: upstream.url.to_string(),
                address: Some(member.instance.address.to_string()),
                percent: if total > 0.0 { f64::from(member.share) * 100.0 / total } else { 0.0 },
                state,
                why,
                requests: member.instance.in_flight(),
                latency_seconds: member.instance.latency.seconds(member.instance.age(now)),
            });
        }
        if views.len() == before {
            views.push(nothing(upstream));
        }
    }
    views
}

/// A destination that leads to nothing.
fn nothing(upstream: &Upstream) -> InstanceView {
    let (state, why) = match upstream.destination.host {
        DestinationHost::Service(_) => (InstanceState::NoInstance, "the service has no instance"),
        _ => (InstanceState::Unresolved, "the name has no address"),
    };
    InstanceView {
        destination: upstream.url.to_string(),
        address: None,
        percent: 0.0,
        state,
        why: why.to_owned(),
        requests: 0,
        latency_seconds: None,
    }
}

fn state(upstreams: &Upstreams, member: &Member, chosen: Option<Chosen>, now: Instant) -> (InstanceState, String) {
    let instance = &member.instance;
    if member.stopping && chosen.is_none() {
        return (InstanceState::Stopping, "it ends what it has begun".to_owned());
    }
    if !member.takes() {
        return (InstanceState::NoWeight, "its destination has the weight 0".to_owned());
    }
    let out = instance.out(now).map(|out| {
        let cause = out.cause.map(|cause| format!(" for {}", cause.reason())).unwrap_or_default();
        let times = if out.ejections > 1 { format!(", {} times in a row", out.ejections) } else { String::new() };
        match out.left.as_secs_f64() {
            0.0 => format!("ejected{cause}{times}; the next request finds out"),
            left => format!("ejected{cause}{times}, for another {left:.1} s"),
        }
    });
    match (chosen, out) {
        (Some(_), _) if member.stopping => (InstanceState::Picked, "all are stopping".to_owned()),
        (Some(_), None) => {
            let why = match upstreams.balance {
                Balance::RoundRobin => "it is its turn",
                Balance::LeastRequests => "it has the fewest requests for its weight",
                Balance::Latency => "drawn by chance, and the sooner of two",
            };
            (InstanceState::Picked, why.to_owned())
        }
        (Some(_), Some(out)) => (InstanceState::Picked, format!("all are out; {out}")),
        (None, Some(out)) => (InstanceState::Ejected, out),
        (None, None) => match instance.failures() {
            0 => (InstanceState::Ready, String::new()),
            failures => (InstanceState::Ready, format!("has failed {failures} times in a row")),
        },
    }
}
