//! The route snapshot: from host, port and scheme to a route, by hash alone.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::map::Map;
use crate::metric::RouteMeasures;
use crate::name::{HostName, HostPattern};
use crate::origin::{Origin, Scheme};
use crate::route::Route;
use crate::upstream::Upstreams;

/// An immutable set of routes. Swapped in whole by [`Control::set_routes`](crate::Control::set_routes).
#[derive(Clone)]
pub struct RouteTable {
    exact: Map<HostName, HostRoutes>,
    wildcard: Map<HostName, HostRoutes>,
    len: usize,
    /// Tells one table from another; never reused.
    generation: u64,
}

/// A route made ready for requests.
pub(crate) struct Entry {
    /// Tells entries of all tables apart; never reused, never zero.
    pub(crate) id: u64,
    /// The origin's text: the `route` label of metrics.
    pub(crate) origin: Arc<str>,
    pub(crate) route: Route,
    pub(crate) upstreams: Upstreams,
    /// Handshakes that wait for a certificate. Among the ports of one name, one entry counts for all.
    pub(crate) waiters: AtomicUsize,
    measures: OnceLock<RouteMeasures>,
}

impl Entry {
    fn new(origin: &Origin, route: Route) -> Entry {
        static ID: AtomicU64 = AtomicU64::new(1);
        Entry {
            id: ID.fetch_add(1, Ordering::Relaxed),
            origin: origin.to_string().into(),
            upstreams: Upstreams::new(&route),
            route,
            waiters: AtomicUsize::new(0),
            measures: OnceLock::new(),
        }
    }

    /// The route's metric handles, registered by its first request: most of many routes are quiet.
    pub(crate) fn measures(&self) -> &RouteMeasures {
        self.measures.get_or_init(|| RouteMeasures::new(&self.origin))
    }
}

#[derive(Clone, Default)]
struct HostRoutes {
    http: PortRoutes,
    https: PortRoutes,
}

/// Few names have more than one port, hence a list.
#[derive(Clone, Default)]
struct PortRoutes {
    any: Option<Arc<Entry>>,
    ports: Vec<(u16, Arc<Entry>)>,
}

impl RouteTable {
    /// Builds a table; for an origin given twice the later route wins.
    ///
    /// Reads the system's trusted roots from disk the first time that a destination is `https`: call it
    /// off the request path.
    pub fn new(routes: impl IntoIterator<Item = (Origin, Route)>) -> RouteTable {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let mut table = RouteTable {
            exact: Map::default(),
            wildcard: Map::default(),
            len: 0,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        };
        for (origin, route) in routes {
            table.insert(origin, route);
        }
        table
    }

    /// Takes over from `previous` what requests have made of each route that is the same in both: its
    /// turn in the rotation, its metric handles, its waiting handshakes.
    pub(crate) fn renew(mut self, previous: &RouteTable) -> RouteTable {
        renew_hosts(&mut self.exact, &previous.exact);
        renew_hosts(&mut self.wildcard, &previous.wildcard);
        self
    }

    /// The ids of all entries.
    pub(crate) fn ids(&self) -> HashSet<u64> {
        let hosts = self.exact.values().chain(self.wildcard.values());
        hosts.flat_map(|routes| routes.http.entries().chain(routes.https.entries())).map(|entry| entry.id).collect()
    }

    /// How many origins have a route.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The exact names with an https origin, each once: those that want a certificate of their own.
    /// Wildcards are left out; see [`RouteTable::wildcards`].
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.exact.iter().filter(|(_, routes)| !routes.https.is_empty()).map(|(name, _)| name)
    }

    /// The wildcards with an https origin, as the name below the star.
    pub fn wildcards(&self) -> impl Iterator<Item = &HostName> {
        self.wildcard.iter().filter(|(_, routes)| !routes.https.is_empty()).map(|(name, _)| name)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The route for a request: exact name before wildcard, and for each the exact port before any.
    /// `port` is the one in the client's `Host`, or none.
    pub(crate) fn find(&self, host: &HostName, port: Option<u16>, scheme: Scheme) -> Option<&Arc<Entry>> {
        let port = port.filter(|port| *port != scheme.default_port());
        self.for_host(host).find_map(|routes| routes.scheme(scheme).find(port))
    }

    /// Whether any port of `host` has a route for `scheme`.
    pub(crate) fn serves(&self, host: &HostName, scheme: Scheme) -> bool {
        self.entry_of(host, scheme).is_some()
    }

    /// The entry that stands for all ports of `host`: that of the exact name before that of the wildcard.
    pub(crate) fn entry_of(&self, host: &HostName, scheme: Scheme) -> Option<&Arc<Entry>> {
        self.for_host(host).find_map(|routes| routes.scheme(scheme).entries().next())
    }

    fn for_host(&self, host: &HostName) -> impl Iterator<Item = &HostRoutes> {
        let wildcard = host.parent().and_then(|parent| self.wildcard.get(parent));
        self.exact.get(host).into_iter().chain(wildcard)
    }

    fn insert(&mut self, origin: Origin, route: Route) {
        let entry = Arc::new(Entry::new(&origin, route));
        let routes = match origin.host {
            HostPattern::Exact(name) => self.exact.entry(name).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix).or_default(),
        };
        let ports = match origin.scheme {
            Scheme::Http => &mut routes.http,
            Scheme::Https => &mut routes.https,
        };
        let port = origin.port.filter(|port| *port != origin.scheme.default_port());
        if ports.insert(port, entry) {
            self.len += 1;
        }
    }
}

impl Default for RouteTable {
    fn default() -> RouteTable {
        RouteTable::new([])
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable").field("len", &self.len).field("generation", &self.generation).finish()
    }
}

fn renew_hosts(hosts: &mut Map<HostName, HostRoutes>, previous: &Map<HostName, HostRoutes>) {
    for (name, routes) in hosts {
        if let Some(previous) = previous.get(name) {
            routes.http.renew(&previous.http);
            routes.https.renew(&previous.https);
        }
    }
}

impl HostRoutes {
    fn scheme(&self, scheme: Scheme) -> &PortRoutes {
        match scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        }
    }
}

impl PortRoutes {
    fn is_empty(&self) -> bool {
        self.any.is_none() && self.ports.is_empty()
    }

    fn find(&self, port: Option<u16>) -> Option<&Arc<Entry>> {
        let exact = port.and_then(|port| self.ports.iter().find(|(own, _)| *own == port));
        exact.map(|(_, entry)| entry).or(self.any.as_ref())
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.any.iter().chain(self.ports.iter().map(|(_, entry)| entry))
    }

    fn renew(&mut self, previous: &PortRoutes) {
        if let (Some(entry), Some(old)) = (&mut self.any, &previous.any) {
            renew_entry(entry, old);
        }
        for (port, entry) in &mut self.ports {
            if let Some((_, old)) = previous.ports.iter().find(|(own, _)| own == port) {
                renew_entry(entry, old);
            }
        }
    }

    /// Whether the port had no route before.
    fn insert(&mut self, port: Option<u16>, entry: Arc<Entry>) -> bool {
        let Some(port) = port else {
            return self.any.replace(entry).is_none();
        };
        let before = self.ports.len();
        self.ports.retain(|(own, _)| *own != port);
        let new = self.ports.len() == before;
        self.ports.push((port, entry));
        new
    }
}

/// Puts the old entry in the place of one that is made from the same origin and route.
fn renew_entry(entry: &mut Arc<Entry>, old: &Arc<Entry>) {
    if entry.origin == old.origin && entry.route == old.route {
        entry.clone_from(old);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(routes: &[(&str, &str)]) -> RouteTable {
        RouteTable::new(routes.iter().map(|(o, r)| (o.parse().unwrap(), r.parse().unwrap())))
    }

    fn found(table: &RouteTable, host: &str, port: Option<u16>, scheme: Scheme) -> Option<String> {
        let entry = table.find(&host.parse().unwrap(), port, scheme)?;
        Some(entry.origin.to_string())
    }

    #[test]
    fn the_most_specific_origin_wins() {
        let table = table(&[
            ("shop.example:https", "http://a"),
            ("shop.example:8443:https", "http://b"),
            ("*.example:https", "http://c"),
            ("*.example:9443:https", "http://d"),
            ("plain.example:http", "http://e"),
        ]);
        let https = |host, port| found(&table, host, port, Scheme::Https);
        assert_eq!(https("shop.example", None).as_deref(), Some("shop.example:https"));
        assert_eq!(https("shop.example", Some(443)).as_deref(), Some("shop.example:https"));
        assert_eq!(https("shop.example", Some(8443)).as_deref(), Some("shop.example:8443:https"));
        assert_eq!(https("shop.example", Some(1)).as_deref(), Some("shop.example:https"));
        assert_eq!(https("api.example", None).as_deref(), Some("*.example:https"));
        assert_eq!(https("api.example", Some(9443)).as_deref(), Some("*.example:9443:https"));
        assert_eq!(https("a.api.example", None), None);
        assert_eq!(https("example", None), None);
        // An exact name that has no https route falls through to the wildcard above it.
        assert_eq!(https("plain.example", None).as_deref(), Some("*.example:https"));
        assert_eq!(found(&table, "shop.example", None, Scheme::Http), None);
    }

    #[test]
    fn an_origin_given_twice_counts_once() {
        let table = table(&[
            ("a.example:https", "http://a"),
            ("a.example:443:https", "http://b"),
            ("a.example:1:https", "http://a"),
            ("a.example:1:https", "http://b"),
        ]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn equal_routes_keep_their_entries() {
        let before = table(&[
            ("a.example:https", "http://a"),
            ("a.example:http", "http://a"),
            ("a.example:8443:https", "http://a"),
            ("*.example:https", "http://a"),
            ("gone.example:https", "http://a"),
        ]);
        let after = table(&[
            ("a.example:https", "http://a"),
            ("a.example:http", "http://b"),
            ("a.example:8443:https", "http://a"),
            ("*.example:https", "http://a"),
            ("new.example:https", "http://a"),
        ])
        .renew(&before);
        let id = |table: &RouteTable, host: &str, port, scheme| {
            table.find(&host.parse().unwrap(), port, scheme).map(|entry| entry.id).unwrap()
        };
        for (host, port, scheme, is_kept) in [
            ("a.example", None, Scheme::Https, true),
            ("a.example", None, Scheme::Http, false),
            ("a.example", Some(8443), Scheme::Https, true),
            ("b.example", None, Scheme::Https, true),
            ("new.example", None, Scheme::Https, false),
        ] {
            assert_eq!(id(&before, host, port, scheme) == id(&after, host, port, scheme), is_kept, "{host}");
        }
        assert_eq!(
            after.find(&"a.example".parse().unwrap(), None, Scheme::Http).unwrap().route,
            "http://b".parse().unwrap()
        );
        assert_eq!((after.len(), after.ids().len()), (5, 5));
        assert_eq!(after.ids().intersection(&before.ids()).count(), 3);
        assert_ne!(after.generation(), before.generation());
    }

    #[test]
    fn hosts_are_the_names_with_an_https_origin() {
        let table = table(&[
            ("a.example:https", "http://a"),
            ("a.example:8443:https", "http://a"),
            ("b.example:http", "http://a"),
            ("*.c.example:https", "http://a"),
        ]);
        assert_eq!(table.hosts().map(HostName::as_str).collect::<Vec<_>>(), ["a.example"]);
        assert_eq!(table.wildcards().map(HostName::as_str).collect::<Vec<_>>(), ["c.example"]);
    }
}
