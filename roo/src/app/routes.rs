//! Routes: from the store to the proxy. A changed copy of the table is made off to the side and swapped in whole; copies
//! share what is the same in both, so that one change among many costs as much as among few.

use std::collections::HashSet;

use roo_acme::Names;
use roo_kv::{Batch, Entry, Event, Key, Revision, Store};
use roo_proxy::{Control, HostPattern, Origin, Route, RouteTable, Scheme};
use rpds::RedBlackTreeMapSync;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::keys;

/// The routes as this node knows them, by key.
#[derive(Clone)]
pub(crate) struct RouteBook {
    pages: watch::Receiver<Option<Routes>>,
}

/// All routes at one revision, by key.
pub(crate) type Routes = RedBlackTreeMapSync<Key, Stored>;

/// One route in the store.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) revision: Revision,
    /// What it says, or why it can't be understood.
    pub(crate) parsed: Result<(Origin, Route), String>,
    /// Where it is served: as it says, or as it said when it was understood last.
    pub(crate) served: Option<Origin>,
}

impl RouteBook {
    /// Whether the store's routes were read at least once.
    pub(crate) fn is_loaded(&self) -> bool {
        self.pages.borrow().is_some()
    }

    /// How many routes there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.borrow().as_ref().map_or(0, |routes| routes.size())
    }

    /// The routes now, and a way to wait for other ones.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Routes>> {
        self.pages.clone()
    }

    /// Where a route comes from: its source, its revision, and what is wrong with it if it is not served as it says.
    pub(crate) fn origin_of(&self, key: &Key) -> (Option<String>, Option<Revision>, Option<String>) {
        let page = self.pages.borrow();
        let Some(stored) = page.as_ref().and_then(|routes| routes.get(key)) else { return (None, None, None) };
        match &stored.parsed {
            Ok((_, route)) => (Some(source(route).to_owned()), Some(stored.revision), None),
            Err(error) => (None, Some(stored.revision), Some(error.clone())),
        }
    }

    /// The https origins that are served with a certificate stored under `name`, as the name of a host or a wildcard.
    pub(crate) fn served_by(&self, name: &HostPattern) -> Vec<String> {
        let covered = |host: &HostPattern| match (name, host) {
            (_, host) if name == host => true,
            (HostPattern::Wildcard(_), HostPattern::Exact(host)) => name.matches(host),
            _ => false,
        };
        let https = |origin: &Origin| origin.scheme == Scheme::Https && covered(&origin.host);
        self.origins(|_| true).iter().filter(|origin| https(origin)).map(Origin::to_string).collect()
    }

    /// The origins that are served and `shown`.
    pub(crate) fn origins(&self, shown: impl Fn(&Key) -> bool) -> Vec<Origin> {
        let page = self.pages.borrow().clone();
        let routes = page.iter().flat_map(Routes::iter).filter(|(key, _)| shown(key));
        routes.filter_map(|(_, stored)| stored.served.clone()).collect()
    }

    /// One object per route that is `shown`, for the API.
    pub(crate) fn rows(&self, shown: impl Fn(&Key) -> bool) -> Vec<Value> {
        let page = self.pages.borrow().clone();
        let routes = page.iter().flat_map(Routes::iter);
        routes.filter(|(key, _)| shown(key)).map(|(key, stored)| row(key, stored)).collect()
    }
}

fn row(key: &Key, stored: &Stored) -> Value {
    let name = key.as_str().strip_prefix(keys::ROUTE_PREFIX).unwrap_or(key.as_str());
    match &stored.parsed {
        Ok((origin, route)) => json!({
            "origin": origin.to_string(),
            "to": route.to.iter().map(|to| to.destination.to_string()).collect::<Vec<_>>(),
            "source": source(route),
            "revision": stored.revision,
        }),
        Err(error) => json!({ "origin": name, "error": error, "revision": stored.revision }),
    }
}

/// Who wrote a route.
fn source(route: &Route) -> &str {
    route.source.as_deref().unwrap_or("manual")
}

/// Keeps the proxy's route table and the set of names that want a certificate as the store has them.
/// Ends when the store does.
pub(super) fn publish(store: &Store, control: Control, wanted: watch::Sender<Names>) -> RouteBook {
    let (sender, pages) = watch::channel(None);
    let mut changes = store.watch(keys::ROUTE_PREFIX);
    tokio::spawn(async move {
        let mut known = Known::default();
        while let Ok(batch) = changes.next_all().await {
            let names_changed = known.apply(batch);
            control.set_routes(known.table.clone());
            // Before it is told that all is loaded.
            if names_changed {
                wanted.send_replace(known.names.clone());
            }
            sender.send_replace(Some(known.routes.clone()));
        }
    });
    RouteBook { pages }
}

/// The routes, and what follows from them.
#[derive(Default)]
struct Known {
    routes: Routes,
    table: RouteTable,
    /// Those with an https origin.
    names: Names,
}

impl Known {
    /// Whether the names have changed.
    fn apply(&mut self, batch: Batch) -> bool {
        let mut changed = false;
        if batch.reset {
            let stay: HashSet<&Key> = batch.events.iter().map(Event::key).collect();
            let gone: Vec<Key> = self.routes.keys().filter(|key| !stay.contains(key)).cloned().collect();
            for key in gone {
                changed |= self.remove(&key);
            }
        }
        for event in batch.events {
            changed |= match event {
                Event::Put { key, entry, .. } => self.put(key, &entry),
                Event::Delete { key, .. } => self.remove(&key),
            };
        }
        changed
    }

    fn put(&mut self, key: Key, entry: &Entry) -> bool {
        let mut stored = parse(&key, entry);
        let mut changed = false;
        match (&stored.parsed, self.routes.get(&key)) {
            (Ok((origin, route)), _) => {
                self.table.set(origin, route.clone());
                changed = self.note_name(origin);
            }
            (Err(error), before) => {
                tracing::warn!(%key, error, "a stored route is not understood; what it said before is served");
                stored.served = before.and_then(|before| before.served.clone());
            }
        }
        self.routes.insert_mut(key, stored);
        changed
    }

    fn remove(&mut self, key: &Key) -> bool {
        let origin = self.routes.get(key).and_then(|stored| stored.served.clone());
        self.routes.remove_mut(key);
        let Some(origin) = origin else { return false };
        self.table.remove(&origin);
        self.note_name(&origin)
    }

    /// Brings the names up to date with the table, after a change at `origin`.
    fn note_name(&mut self, origin: &Origin) -> bool {
        let name = origin.host.to_string();
        match (origin.scheme == Scheme::Https && self.table.has_https(&origin.host), self.names.contains(&name)) {
            (true, false) => self.names.insert_mut(name),
            (false, true) if origin.scheme == Scheme::Https => drop(self.names.remove_mut(&name)),
            _ => return false,
        }
        true
    }
}

fn parse(key: &Key, entry: &Entry) -> Stored {
    let text = key.as_str().strip_prefix(keys::ROUTE_PREFIX).unwrap_or_default();
    let origin = text.parse::<Origin>().map_err(|error| error.to_string()).and_then(|origin| {
        // Two spellings of one origin would be two routes of which each removes the other.
        let normal = keys::route(&origin);
        if normal == *key { Ok(origin) } else { Err(format!("the key is not spelled as it should be: {normal}")) }
    });
    let route = Route::parse(&entry.value).map_err(|error| error.to_string());
    let parsed = origin.and_then(|origin| Ok((origin, route?)));
    let served = parsed.as_ref().ok().map(|(origin, _)| origin.clone());
    Stored { revision: entry.mod_revision, parsed, served }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(origin: &str) -> Key {
        Key::try_from(format!("{}{origin}", keys::ROUTE_PREFIX)).expect("a key")
    }

    fn put(origin: &str, value: &str) -> Event {
        let entry = Entry {
            value: Bytes::from(value.to_owned()),
            create_revision: Revision(1),
            mod_revision: Revision(1),
            version: 1,
            lease: None,
        };
        Event::Put { key: key(origin), entry, previous: None }
    }

    fn delete(origin: &str) -> Event {
        Event::Delete { key: key(origin), revision: Revision(2), expired: false, previous: None }
    }

    /// After these changes, one batch each: the names that want a certificate, how many routes are served and stored,
    /// and whether the last batch changed the names.
    fn after(batches: &[(bool, &[Event])]) -> (Vec<String>, usize, usize, bool) {
        let (mut known, mut changed) = (Known::default(), false);
        for (reset, events) in batches {
            let batch = Batch { reset: *reset, events: events.to_vec(), revision: Revision(1) };
            changed = known.apply(batch);
        }
        (known.names.iter().cloned().collect(), known.table.len(), known.routes.size(), changed)
    }

    #[test]
    fn a_name_is_wanted_while_it_has_an_https_origin() {
        let two = [put("a.example:https", "http://a"), put("a.example:8443:https", "http://a")];
        let plain = [put("b.example:http", "http://b")];
        let name = || vec!["a.example".to_owned()];
        assert_eq!(after(&[(true, &two), (false, &plain)]), (name(), 3, 3, false));
        let one = [delete("a.example:https")];
        assert_eq!(after(&[(true, &two), (false, &one)]), (name(), 1, 1, false));
        let none = [delete("a.example:https"), delete("a.example:8443:https")];
        assert_eq!(after(&[(true, &two), (false, &none)]), (vec![], 0, 0, true));
    }

    #[test]
    fn a_reset_leaves_what_it_says_and_nothing_else() {
        let first = [put("a.example:https", "http://a"), put("b.example:https", "http://b")];
        let then = [put("b.example:https", "http://c"), put("c.example:https", "http://c")];
        let names = vec!["b.example".to_owned(), "c.example".to_owned()];
        assert_eq!(after(&[(true, &first), (true, &then)]), (names, 2, 2, true));
    }

    #[test]
    fn what_is_not_understood_is_served_as_before_until_it_goes() {
        let good = [put("a.example:https", "http://a")];
        let bad = [put("a.example:https", "{"), put("b.example:https", "{"), put("C.example:https", "http://c")];
        assert_eq!(after(&[(true, &good), (false, &bad)]), (vec!["a.example".to_owned()], 1, 3, false));
        let gone = [delete("a.example:https")];
        assert_eq!(after(&[(true, &good), (false, &bad), (false, &gone)]), (vec![], 0, 2, true));
    }
}
