//! Addresses of upstream names, kept fresh in the background.
//!
//! A request reads the last answer; it waits only for the very first one of a name. While a name is
//! used it is asked for again every two seconds, so that instances come and go without anybody noticing;
//! the time to live in the answer is not obeyed, because Docker's says ten minutes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DnsName;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

/// The names known to all workers, and the task that refreshes each.
pub(crate) struct Names {
    resolver: Arc<TokioResolver>,
    /// Where refreshing runs: apart from the workers.
    runtime: Handle,
    known: Mutex<HashMap<Arc<str>, Arc<Name>>>,
}

/// The version of a name before its first answer.
pub(crate) const UNANSWERED: u64 = 0;

/// One name and its last answer.
pub(crate) struct Name {
    text: Arc<str>,
    /// Unset until the first answer; empty if the name has no address.
    addresses: ArcSwapOption<Vec<IpAddr>>,
    answered: watch::Sender<bool>,
    used: AtomicBool,
    /// Nobody refreshes it any more: ask [`Names`] for a new one.
    retired: AtomicBool,
    /// Changes with the addresses.
    version: AtomicU64,
}

impl Names {
    /// Must be called on `runtime`.
    pub(crate) fn new(resolver: TokioResolver, runtime: Handle) -> Names {
        Names { resolver: Arc::new(resolver), runtime, known: Mutex::default() }
    }

    /// Runs something else where names are refreshed, apart from the workers.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// The name's record; starts to refresh it if nobody does. Takes a lock: workers keep what they got.
    pub(crate) fn name(self: &Arc<Self>, text: &Arc<str>) -> Arc<Name> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(text) {
            return name.clone();
        }
        let name = Arc::new(Name::new(text.clone()));
        known.insert(text.clone(), name.clone());
        self.runtime.spawn(refresh(self.clone(), name.clone()));
        name
    }

    /// A name that nobody looks up.
    pub(crate) fn unknown(text: &Arc<str>) -> Arc<Name> {
        Arc::new(Name::new(text.clone()))
    }

    fn retire(&self, name: &Name) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.text);
        name.retired.store(true, Ordering::Relaxed);
    }
}

impl Name {
    fn new(text: Arc<str>) -> Name {
        Name {
            text,
            addresses: ArcSwapOption::empty(),
            answered: watch::Sender::new(false),
            used: AtomicBool::new(true),
            retired: AtomicBool::new(false),
            version: AtomicU64::new(UNANSWERED),
        }
    }

    /// The last answer, if there was one; empty if the name has no address.
    pub(crate) fn addresses(&self) -> Option<Arc<Vec<IpAddr>>> {
        self.addresses.load_full()
    }

    /// Tells one answer from another.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Keeps the name fresh, and says whether what was read at this version still holds.
    pub(crate) fn is_used(&self, version: u64) -> bool {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.version() == version && !self.retired.load(Ordering::Relaxed)
    }

    /// Waits for the first answer or the deadline. Dropping the future loses nothing.
    pub(crate) async fn answered(&self, deadline: Instant) {
        let mut answered = self.answered.subscribe();
        // Neither the deadline nor the end of the refresher changes what the caller does next: look.
        let _ = tokio::time::timeout_at(deadline, answered.wait_for(|answered| *answered)).await;
    }

    fn publish(&self, addresses: Vec<IpAddr>) {
        if self.addresses.load().as_deref() != Some(&addresses) {
            self.addresses.store(Some(Arc::new(addresses)));
            self.version.fetch_add(1, Ordering::Release);
        }
        self.answered.send_replace(true);
    }
}

/// A worker's own view of [`Names`], without a lock.
pub(crate) struct NameCache {
    names: Arc<Names>,
    own: RefCell<HashMap<Arc<str>, Arc<Name>>>,
}

impl NameCache {
    pub(crate) fn new(names: Arc<Names>) -> NameCache {
        NameCache { names, own: RefCell::default() }
    }

    pub(crate) fn name(&self, text: &Arc<str>) -> Arc<Name> {
        let mut own = self.own.borrow_mut();
        match own.get(text) {
            Some(name) if !name.retired.load(Ordering::Relaxed) => name.clone(),
            _ => {
                let name = self.names.name(text);
                own.insert(text.clone(), name.clone());
                name
            }
        }
    }

    /// Forgets what nobody refreshes.
    pub(crate) fn sweep(&self) {
        self.own.borrow_mut().retain(|_, name| !name.retired.load(Ordering::Relaxed));
    }
}

const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// Refreshes without a request in between after which a name is let go: five minutes.
const UNUSED_MAX: u32 = 150;
/// Answers "no such name" in a row before the last addresses are given up: names of a service vanish
/// for a moment while its tasks are replaced.
const NOTHING_MAX: u32 = 3;

async fn refresh(names: Arc<Names>, name: Arc<Name>) {
    let mut unused = 0;
    let mut nothing = 0;
    while unused < UNUSED_MAX {
        match look_up(&names.resolver, &name.text).await {
            Answer::Addresses(addresses) => {
                nothing = 0;
                name.publish(addresses);
            }
            Answer::Nothing => {
                nothing += 1;
                if nothing >= NOTHING_MAX || name.addresses.load().is_none() {
                    name.publish(Vec::new());
                }
            }
            // A server that does not answer says nothing about the name: keep what is known.
            Answer::Failed => {
                if name.addresses.load().is_none() {
                    name.publish(Vec::new());
                }
            }
        }
        // Spread, so that names first used together are not asked for together for ever.
        tokio::time::sleep(REFRESH_EVERY.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        unused = if name.used.swap(false, Ordering::Relaxed) { 0 } else { unused + 1 };
    }
    names.retire(&name);
}

enum Answer {
    Addresses(Vec<IpAddr>),
    Nothing,
    Failed,
}

async fn look_up(resolver: &TokioResolver, text: &str) -> Answer {
    if is_localhost(text) {
        return Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let mut failed = false;
    for spelling in spellings(text) {
        let Ok(name) = DnsName::from_ascii(&spelling) else {
            continue;
        };
        match resolver.lookup_ip(name).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_unstable();
                addresses.dedup();
                if !addresses.is_empty() {
                    return Answer::Addresses(addresses);
                }
            }
            Err(fault) if fault.is_no_records_found() || fault.is_nx_domain() => {}
            Err(fault) => {
                tracing::debug!(name = spelling, %fault, "upstream name not resolved");
                failed = true;
            }
        }
    }
    if failed { Answer::Failed } else { Answer::Nothing }
}

/// RFC 6761 §6.3: never asked of a server.
fn is_localhost(text: &str) -> bool {
    let text = text.trim_end_matches('.');
    text == "localhost" || text.ends_with(".localhost")
}

/// What to ask for, in order. A name that looks like a Swarm service is asked for by its tasks first:
/// the name itself yields one virtual address, behind which a dead task would be met again and again.
fn spellings(text: &str) -> Vec<String> {
    let bare = text.trim_end_matches('.');
    let is_service = !bare.contains('.') || bare.contains('_');
    if is_service && !bare.starts_with("tasks.") {
        vec![format!("tasks.{bare}."), text.to_owned()]
    } else {
        vec![text.to_owned()]
    }
}

/// A resolver that asks `server`, or the system's where there is none. Either reads `/etc/hosts`.
/// Must be called on the runtime that it will work on.
pub(crate) fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let system = || match TokioResolver::builder_tokio() {
        Ok(builder) => Some(builder),
        Err(fault) => {
            tracing::warn!(%fault, "the system's DNS settings cannot be read: only addresses and /etc/hosts will do");
            None
        }
    };
    let builder = match server {
        Some(server) => Resolver::builder_with_config(only(server), provider),
        None => system().unwrap_or_else(|| Resolver::builder_with_config(ResolverConfig::default(), provider)),
    };
    let mut builder = builder;
    set_options(builder.options_mut());
    builder.build()
}

fn only(server: SocketAddr) -> ResolverConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    let server = NameServerConfig::new(server.ip(), true, connections);
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn set_options(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    // IPv6 only where there is no IPv4: half the questions, and no half-working second family.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    // We keep the answers ourselves.
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_services_tasks_are_asked_for_first() {
        assert_eq!(spellings("web"), ["tasks.web.", "web"]);
        assert_eq!(spellings("shop_web"), ["tasks.shop_web.", "shop_web"]);
        assert_eq!(spellings("tasks.shop_web"), ["tasks.shop_web"]);
        assert_eq!(spellings("tasks.web."), ["tasks.web."]);
        assert_eq!(spellings("db.example.com"), ["db.example.com"]);
    }

    #[tokio::test]
    async fn localhost_needs_no_server() {
        let nowhere = resolver(Some(([127, 0, 0, 1], 9).into())).unwrap();
        for name in ["localhost", "localhost.", "demo.localhost"] {
            let Answer::Addresses(addresses) = look_up(&nowhere, name).await else {
                panic!("{name} has no address");
            };
            assert_eq!(addresses[0], IpAddr::from([127, 0, 0, 1]));
        }
    }
}
