//! Routes: from the store to the proxy. A new table is built off to the side and swapped in whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roo_kv::{Entry, Event, Key, Revision, Store};
use roo_proxy::{Control, Origin, Route, RouteTable, Scheme};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::keys;

/// The routes as this node knows them, by key.
#[derive(Clone)]
pub(crate) struct RouteBook {
    pages: watch::Receiver<Option<Arc<Routes>>>,
}

/// All routes at one revision, by key.
pub(crate) type Routes = BTreeMap<Key, Stored>;

/// One route in the store.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) revision: Revision,
    /// What it says, or why it can't be understood.
    pub(crate) parsed: Result<(Origin, Route), String>,
    /// What is served: what it says, or what it said when it was understood last.
    pub(crate) served: Option<(Origin, Route)>,
}

impl RouteBook {
    /// Whether the store's routes were read at least once.
    pub(crate) fn is_loaded(&self) -> bool {
        self.pages.borrow().is_some()
    }

    /// How many routes there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.borrow().as_ref().map_or(0, |routes| routes.len())
    }

    /// The routes now, and a way to wait for other ones.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Arc<Routes>>> {
        self.pages.clone()
    }

    /// One object per route that is `shown`, for the API.
    pub(crate) fn rows(&self, shown: impl Fn(&Key) -> bool) -> Vec<Value> {
        let page = self.pages.borrow().clone();
        let routes = page.iter().flat_map(|routes| routes.iter());
        routes.filter(|(key, _)| shown(key)).map(|(key, stored)| row(key, stored)).collect()
    }
}

fn row(key: &Key, stored: &Stored) -> Value {
    let name = key.as_str().strip_prefix(keys::ROUTE_PREFIX).unwrap_or(key.as_str());
    match &stored.parsed {
        Ok((origin, route)) => json!({
            "origin": origin.to_string(),
            "to": route.to.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "source": route.source.as_deref().unwrap_or("manual"),
            "revision": stored.revision,
        }),
        Err(error) => json!({ "origin": name, "error": error, "revision": stored.revision }),
    }
}

/// Keeps the proxy's route table and the set of names that want a certificate as the store has them.
/// Ends when the store does.
pub(super) fn publish(store: &Store, control: Control, wanted: watch::Sender<Arc<BTreeSet<String>>>) -> RouteBook {
    let (sender, pages) = watch::channel(None);
    let mut changes = store.watch(keys::ROUTE_PREFIX);
    tokio::spawn(async move {
        let mut routes = Routes::new();
        while let Ok(batch) = changes.next_all().await {
            if batch.reset {
                routes.clear();
            }
            for event in batch.events {
                apply(&mut routes, event);
            }
            let valid = || routes.values().filter_map(|stored| stored.served.as_ref());
            let names = Arc::new(names(valid()));
            control.set_routes(RouteTable::new(valid().cloned()));
            sender.send_replace(Some(Arc::new(routes.clone())));
            wanted.send_if_modified(|known| {
                let changed = *known != names;
                *known = names;
                changed
            });
        }
    });
    RouteBook { pages }
}

fn apply(routes: &mut Routes, event: Event) {
    match event {
        Event::Put { key, entry, .. } => {
            let mut stored = parse(&key, &entry);
            if let Err(error) = &stored.parsed {
                tracing::warn!(%key, error, "a stored route is not understood; what it said before is served");
                stored.served = routes.remove(&key).and_then(|before| before.served);
            }
            routes.insert(key, stored);
        }
        Event::Delete { key, .. } => {
            routes.remove(&key);
        }
    }
}

fn parse(key: &Key, entry: &Entry) -> Stored {
    let text = key.as_str().strip_prefix(keys::ROUTE_PREFIX).unwrap_or_default();
    let origin = text.parse::<Origin>().map_err(|error| error.to_string());
    let route = Route::parse(&entry.value).map_err(|error| error.to_string());
    let parsed = origin.and_then(|origin| Ok((origin, route?)));
    Stored { revision: entry.mod_revision, served: parsed.clone().ok(), parsed }
}

/// The names that need a certificate: those with an https origin.
fn names<'a>(routes: impl Iterator<Item = &'a (Origin, Route)>) -> BTreeSet<String> {
    routes.filter(|(origin, _)| origin.scheme == Scheme::Https).map(|(origin, _)| origin.host.to_string()).collect()
}
