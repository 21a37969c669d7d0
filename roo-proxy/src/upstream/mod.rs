//! The upstream side: which address, which connection, and how it is made.

pub(crate) mod address;
pub(crate) mod balance;
pub(crate) mod budget;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod group;
mod guard;
pub(crate) mod http2;
pub(crate) mod identity;
pub(crate) mod instance;
pub(crate) mod latency;
pub(crate) mod names;
pub(crate) mod pick;
pub(crate) mod pool;
pub(crate) mod tls;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use ipnet::IpNet;
use tokio::time::Instant;

use crate::destination::Destination;
use crate::origin::Scheme;
use crate::protocol::Protocol;
use crate::proxy_protocol::ProxyProtocol;
use crate::route::{Ejection, Route};
use balance::Balance;
use budget::Budget;
use group::{Group, Sources, Tried};
use instance::{Cause, Chosen, Instance, Out};
use tls::Profile;

/// Addresses that one request may try.
pub(crate) const TRIES: usize = 3;

/// The destinations of one route, made ready for requests.
pub(crate) struct Upstreams {
    pub(crate) list: Vec<Arc<Upstream>>,
    pub(crate) balance: Balance,
    pub(crate) ejection: Ejection,
    /// Counts requests; where the rotation stands. Shared by all workers.
    turn: AtomicUsize,
    /// What the destinations lead to; unset until the first request.
    group: ArcSwapOption<Group>,
    /// How many of the group are out. Changed with `changing` held.
    out: AtomicUsize,
    /// Held while the group, or who of it is out, changes: never by a request that goes well.
    changing: Mutex<()>,
    budget: Budget,
}

/// One destination, made ready.
pub(crate) struct Upstream {
    pub(crate) destination: Destination,
    /// Its share, if the route gives it one.
    pub(crate) weight: Option<u8>,
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
    /// Whether it is spoken to by HTTP/2.
    pub(crate) is_http2: bool,
}

/// Who is in after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Up(pub(crate) usize);

impl Upstreams {
    pub(crate) fn new(route: &Route) -> Upstreams {
        Upstreams {
            list: route.to.iter().map(|to| Arc::new(Upstream::new(&to.destination, to.weight, route))).collect(),
            balance: route.balance,
            ejection: route.ejection.clone(),
            turn: AtomicUsize::new(0),
            group: ArcSwapOption::empty(),
            out: AtomicUsize::new(0),
            changing: Mutex::default(),
            budget: Budget::default(),
        }
    }

    /// What the destinations led to when a request asked last.
    pub(crate) fn group(&self) -> Guard<Option<Arc<Group>>> {
        self.group.load()
    }

    /// Makes the group anew, unless somebody else has.
    pub(crate) fn renew(&self, sources: &impl Sources) -> Option<Up> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let group = self.group.load_full().unwrap_or_default();
        if self.group.load().is_some() && group.is_current(|| sources.services().generation()) {
            return None;
        }
        let group = Arc::new(Group::of(&self.list, sources, &group));
        self.group.store(Some(group.clone()));
        Some(self.count(&group))
    }

    /// The next turn, for a request that has come.
    pub(crate) fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The turn that comes next.
    pub(crate) fn turn(&self) -> usize {
        self.turn.load(Ordering::Relaxed)
    }

    /// Who of the group is to be asked at this turn.
    pub(crate) fn choose<'a>(
        &self,
        group: &'a Group,
        turn: usize,
        tried: &Tried,
    ) -> Option<(&'a Arc<Instance>, Chosen)> {
        let out = self.out.load(Ordering::Relaxed) > 0;
        group.choose(self.balance, turn, tried, out).map(|(member, chosen)| (&member.instance, chosen))
    }

    /// Whether another request may be sent again.
    pub(crate) fn may_retry(&self) -> bool {
        self.budget.take(self.turn(), Instant::now())
    }

    /// An instance has answered. Who is in, if that changed.
    pub(crate) fn answered(&self, instance: &Instance, chosen: Chosen, now: Instant) -> Option<Up> {
        if !instance.answered(chosen, now) {
            return None;
        }
        tracing::info!(destination = %instance.upstream.url, address = %instance.address, "an instance is back");
        self.changed()
    }

    /// An instance has failed. Who is in, if it was ejected.
    pub(crate) fn failed(&self, instance: &Instance, chosen: Chosen, cause: Cause, now: Instant) -> Option<Up> {
        if !instance.failed(cause, chosen, &self.ejection) {
            return None;
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let group = self.group.load_full()?;
        if instance.is_out() {
            // Meanwhile somebody else has seen the same.
            if chosen != Chosen::Probe {
                return None;
            }
        } else if !cause.is_unconnected() && !self.ejection.may_eject(group.out(), group.taking()) {
            return None;
        }
        instance.eject(cause, &self.ejection, now);
        if let Some(Out { left, cause: Some(cause), ejections }) = instance.out(now) {
            tracing::info!(
                destination = %instance.upstream.url, address = %instance.address, cause = cause.reason(),
                seconds = left.as_secs_f64(), ejections, "an instance is ejected"
            );
        }
        Some(self.count(&group))
    }

    /// Seconds, rounded up, until the first instance that is out is looked at again: at least one.
    pub(crate) fn retry_after(&self) -> u32 {
        let (now, group) = (Instant::now(), self.group.load());
        let members = group.iter().flat_map(|group| &group.members).filter(|member| member.takes());
        let first = members.filter_map(|member| member.instance.out(now)).map(|out| out.left).min();
        let seconds = first.unwrap_or_default().as_millis().div_ceil(1000);
        u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
    }

    fn changed(&self) -> Option<Up> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Some(self.count(self.group.load_full()?.as_ref()))
    }

    fn count(&self, group: &Group) -> Up {
        let out = group.out();
        self.out.store(out, Ordering::Relaxed);
        Up(group.taking().saturating_sub(out))
    }
}

impl Upstream {
    fn new(destination: &Destination, weight: Option<u8>, route: &Route) -> Upstream {
        static APART: AtomicU64 = AtomicU64::new(1);
        let is_http2 = destination.is_h2c || route.protocol == Protocol::Http2;
        Upstream {
            weight,
            url: destination.to_string().into(),
            origin_host: format!("x-origin-host: {}\r\n", destination.authority()),
            tls: (destination.scheme == Scheme::Https).then(|| Profile::of(&route.tls, &destination.host, is_http2)),
            is_http2,
            send_proxy: route.send_proxy,
            allowed_addresses: route.allow_addresses.clone(),
            apart: if route.allow_addresses.is_empty() { 0 } else { APART.fetch_add(1, Ordering::Relaxed) },
            destination: destination.clone(),
        }
    }
}
