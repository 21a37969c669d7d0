//! The route snapshot: from host, port and scheme to a route, by hash alone.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::map::{Shared, shared};
use crate::metric::RouteMeasures;
use crate::name::{HostName, HostPattern};
use crate::origin::{Origin, Scheme};
use crate::route::Route;
use crate::tls::Asked;
use crate::upstream::Upstreams;

/// A set of routes. A copy costs nothing and shares what is the same in both, so that a change of one among many is
/// cheap: keep one, change it, and give a copy to [`Control::set_routes`](crate::Control::set_routes).
#[derive(Clone)]
pub struct RouteTable {
    exact: Shared<HostName, HostRoutes>,
    wildcard: Shared<HostName, HostRoutes>,
    len: usize,
    ports: Arc<NamedPorts>,
    /// The same in all that came from one by changes; never reused.
    lineage: u64,
}

/// The ports that origins name although they are not their scheme's own, and in how many origins.
pub(crate) type NamedPorts = BTreeMap<(Scheme, u16), usize>;

/// A route made ready for requests.
pub(crate) struct Entry {
    /// Tells entries of all tables apart; never reused, never zero.
    pub(crate) id: u64,
    /// The origin's text: the `route` label of metrics.
    pub(crate) origin: Arc<str>,
    pub(crate) route: Route,
    pub(crate) upstreams: Upstreams,
    /// What its clients' handshakes must bring, if that is anything special.
    pub(crate) asked: Option<Arc<Asked>>,
    /// Handshakes that wait for a certificate.
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
            asked: Asked::new(&route.client_tls),
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
    /// Builds a table; for an origin given twice the later route wins. As [`RouteTable::set`] for each.
    pub fn new(routes: impl IntoIterator<Item = (Origin, Route)>) -> RouteTable {
        static LINEAGE: AtomicU64 = AtomicU64::new(1);
        let lineage = LINEAGE.fetch_add(1, Ordering::Relaxed);
        let mut table = RouteTable { exact: shared(), wildcard: shared(), len: 0, ports: Arc::default(), lineage };
        for (origin, route) in routes {
            table.set(&origin, route);
        }
        table
    }

    /// Gives `origin` this route. If it has the same one already, that goes on where it was: its rotation does not
    /// start anew.
    ///
    /// Reads the system's trusted roots from disk the first time that a destination is `https`: call it
    /// off the request path.
    pub fn set(&mut self, origin: &Origin, route: Route) {
        let mut routes = self.host(&origin.host).cloned().unwrap_or_default();
        let ports = routes.scheme_mut(origin.scheme);
        let port = port_of(origin);
        match ports.own(port) {
            Some(old) if old.route == route => return,
            Some(_) => {}
            None => {
                self.len += 1;
                if let Some(port) = port {
                    *Arc::make_mut(&mut self.ports).entry((origin.scheme, port)).or_default() += 1;
                }
            }
        }
        ports.insert(port, Arc::new(Entry::new(origin, route)));
        let (hosts, name) = self.hosts_mut(&origin.host);
        hosts.insert_mut(name.clone(), routes);
    }

    /// Takes the route of `origin` away, if it has one.
    pub fn remove(&mut self, origin: &Origin) {
        let Some(mut routes) = self.host(&origin.host).cloned() else { return };
        if !routes.scheme_mut(origin.scheme).remove(port_of(origin)) {
            return;
        }
        self.len -= 1;
        self.forget_port(origin);
        let (hosts, name) = self.hosts_mut(&origin.host);
        if routes.is_empty() {
            hosts.remove_mut(name);
        } else {
            hosts.insert_mut(name.clone(), routes);
        }
    }

    fn forget_port(&mut self, origin: &Origin) {
        let Some(port) = port_of(origin) else { return };
        let ports = Arc::make_mut(&mut self.ports);
        if let btree_map::Entry::Occupied(mut count) = ports.entry((origin.scheme, port)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Takes over from `previous` what requests have made of each route that is the same in both: its
    /// turn in the rotation, its metric handles, its waiting handshakes. Where one came from the other by changes,
    /// that is so already.
    pub(crate) fn renew(mut self, previous: &RouteTable) -> RouteTable {
        if self.lineage != previous.lineage {
            self.exact = renewed(&self.exact, &previous.exact);
            self.wildcard = renewed(&self.wildcard, &previous.wildcard);
        }
        self
    }

    /// Whether there is an https origin with this host, on any port: it wants a certificate.
    pub fn has_https(&self, host: &HostPattern) -> bool {
        self.host(host).is_some_and(|routes| !routes.https.is_empty())
    }

    /// All routes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let hosts = self.exact.values().chain(self.wildcard.values());
        hosts.flat_map(|routes| routes.http.entries().chain(routes.https.entries()))
    }

    /// The ports that origins name.
    pub(crate) fn ports(&self) -> &Arc<NamedPorts> {
        &self.ports
    }

    /// How many origins have a route.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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
        let wildcard = || host.parent().and_then(|parent| self.wildcard.get(parent));
        self.exact.get(host).into_iter().chain(std::iter::once_with(wildcard).flatten())
    }

    fn host(&self, host: &HostPattern) -> Option<&HostRoutes> {
        match host {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
        }
    }

    fn hosts_mut<'a>(&mut self, host: &'a HostPattern) -> (&mut Shared<HostName, HostRoutes>, &'a HostName) {
        match host {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
        }
    }
}

/// The port that tells an origin from others of its host.
fn port_of(origin: &Origin) -> Option<u16> {
    origin.port.filter(|port| *port != origin.scheme.default_port())
}

impl Default for RouteTable {
    fn default() -> RouteTable {
        RouteTable::new([])
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable").field("len", &self.len).field("lineage", &self.lineage).finish()
    }
}

fn renewed(
    hosts: &Shared<HostName, HostRoutes>,
    previous: &Shared<HostName, HostRoutes>,
) -> Shared<HostName, HostRoutes> {
    let mut renewed = shared();
    for (name, routes) in hosts {
        let mut routes = routes.clone();
        if let Some(previous) = previous.get(name) {
            routes.http.renew(&previous.http);
            routes.https.renew(&previous.https);
        }
        renewed.insert_mut(name.clone(), routes);
    }
    renewed
}

impl HostRoutes {
    fn scheme(&self, scheme: Scheme) -> &PortRoutes {
        match scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        }
    }

    fn scheme_mut(&mut self, scheme: Scheme) -> &mut PortRoutes {
        match scheme {
            Scheme::Http => &mut self.http,
            Scheme::Https => &mut self.https,
        }
    }

    fn is_empty(&self) -> bool {
        self.http.is_empty() && self.https.is_empty()
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

    /// The route of this very port.
    fn own(&self, port: Option<u16>) -> Option<&Arc<Entry>> {
        let Some(port) = port else { return self.any.as_ref() };
        self.ports.iter().find(|(own, _)| *own == port).map(|(_, entry)| entry)
    }

    fn insert(&mut self, port: Option<u16>, entry: Arc<Entry>) {
        self.remove(port);
        match port {
            None => self.any = Some(entry),
            Some(port) => self.ports.push((port, entry)),
        }
    }

    /// Whether it had one.
    fn remove(&mut self, port: Option<u16>) -> bool {
        let Some(port) = port else { return self.any.take().is_some() };
        let before = self.ports.len();
        self.ports.retain(|(own, _)| *own != port);
        self.ports.len() < before
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
    use proptest::prelude::*;

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
        assert_eq!(after.len(), 5);
    }

    #[test]
    fn a_host_with_an_https_origin_is_known() {
        let table = table(&[
            ("a.example:8443:https", "http://a"),
            ("b.example:http", "http://a"),
            ("*.c.example:https", "http://a"),
        ]);
        let has = |host: &str| table.has_https(&host.parse().unwrap());
        assert_eq!(
            ["a.example", "b.example", "*.c.example", "c.example", "d.example"].map(has),
            [true, false, true, false, false]
        );
    }

    #[test]
    fn the_ports_that_origins_name_are_known() {
        let mut table = table(&[
            ("a.example:https", "http://a"),
            ("a.example:443:https", "http://a"),
            ("a.example:8443:https", "http://a"),
            ("a.example:8443:https", "http://b"),
            ("*.example:8443:https", "http://a"),
            ("a.example:443:http", "http://a"),
        ]);
        assert_eq!(**table.ports(), [((Scheme::Http, 443), 1), ((Scheme::Https, 8443), 2)].into());
        for origin in ["a.example:443:http", "a.example:8443:https", "b.example:8443:https", "a.example:https"] {
            table.remove(&origin.parse().unwrap());
        }
        assert_eq!(**table.ports(), [((Scheme::Https, 8443), 1)].into());
    }

    #[test]
    fn a_copy_does_not_see_a_change() {
        let before = table(&[("a.example:https", "http://a"), ("b.example:https", "http://b")]);
        let mut after = before.clone();
        after.set(&"a.example:https".parse().unwrap(), "http://c".parse().unwrap());
        after.remove(&"b.example:https".parse().unwrap());
        let destination = |table: &RouteTable, host: &str| {
            let entry = table.find(&host.parse().unwrap(), None, Scheme::Https)?;
            Some(entry.route.to[0].destination.to_string())
        };
        assert_eq!(destination(&before, "a.example").as_deref(), Some("http://a"));
        assert_eq!(destination(&after, "a.example").as_deref(), Some("http://c"));
        assert!(destination(&before, "b.example").is_some() && destination(&after, "b.example").is_none());
        assert_eq!((before.len(), after.len()), (2, 1));
    }

    proptest! {
        /// Against a plain map: whatever is set and removed in a row, the table finds what the map has.
        #[test]
        fn changes_end_where_a_new_table_begins(
            changes in proptest::collection::vec((0usize..6, 0usize..3), 0..40),
        ) {
            let origins = [
                "a.example:https", "a.example:http", "a.example:8443:https", "a.example:9443:https", "*.example:https",
                "b.example:443:https",
            ];
            let (mut table, mut model) = (RouteTable::default(), std::collections::BTreeMap::new());
            for (origin, to) in changes {
                let parsed: Origin = origins[origin].parse().unwrap();
                if to == 0 {
                    table.remove(&parsed);
                    model.remove(&origin);
                } else {
                    table.set(&parsed, format!("http://to{to}").parse().unwrap());
                    model.insert(origin, to);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for (index, origin) in origins.iter().enumerate() {
                let origin: Origin = origin.parse().unwrap();
                let routes = table.host(&origin.host);
                let entry = routes.and_then(|routes| routes.scheme(origin.scheme).own(port_of(&origin)));
                let to = entry.map(|entry| entry.route.to[0].destination.to_string());
                prop_assert_eq!(to, model.get(&index).map(|to| format!("http://to{to}")));
            }
        }
    }
}
