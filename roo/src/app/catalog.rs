//! The catalog: from the store to the proxy, and to whoever asks which instances there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use roo_discovery::{Address, Catalog, Host, Instance, Node, State};
use roo_kv::{Batch, Entry, Event, Key, Member, NodeId, Store};
use roo_proxy::{Control, DestinationHost, Endpoint, ServiceTable};
use tokio::sync::watch;

use super::swarm;
use crate::keys;

/// The catalog as this node knows it.
#[derive(Clone)]
pub(crate) struct CatalogBook {
    pages: watch::Receiver<Option<Arc<Catalog>>>,
}

impl CatalogBook {
    /// Whether the store's instances were read at least once.
    pub(crate) fn is_loaded(&self) -> bool {
        self.pages.borrow().is_some()
    }

    /// The catalog now; empty until it is loaded.
    pub(crate) fn now(&self) -> Arc<Catalog> {
        self.pages.borrow().clone().unwrap_or_default()
    }
}

/// The instances in the store, by key.
type Records = BTreeMap<Key, Arc<Instance>>;

/// Keeps the catalog and the proxy's services as the store has them. Ends when the store does.
pub(super) fn publish(store: &Store, control: Control) -> CatalogBook {
    let (sender, pages) = watch::channel(None);
    let mut changes = store.watch(keys::INSTANCE_PREFIX);
    let mut status = store.status_changes();
    tokio::spawn(async move {
        let mut records = Records::new();
        let mut members = status.borrow_and_update().members.clone();
        loop {
            tokio::select! {
                batch = changes.next() => match batch {
                    Ok(batch) => {
                        apply(&mut records, batch);
                        // The proxy first: what has left must not be sent anything once the catalog says so.
                        control.set_services(services(records.values()));
                    }
                    Err(_) => return,
                },
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // The status changes with every write; where the members are hardly ever.
                    let status = status.borrow_and_update();
                    if places(&status.members).eq(places(&members)) {
                        continue;
                    }
                    members.clone_from(&status.members);
                    if sender.borrow().is_none() {
                        continue;
                    }
                }
            }
            let catalog = Catalog::new(records.values().cloned(), members.iter().filter_map(node));
            sender.send_replace(Some(Arc::new(catalog)));
        }
    });
    CatalogBook { pages }
}

fn apply(records: &mut Records, batch: Batch) {
    if batch.reset {
        records.clear();
    }
    for event in batch.events {
        match event {
            Event::Put { key, entry, .. } => match parse(&key, &entry) {
                Ok(instance) => drop(records.insert(key, Arc::new(instance))),
                Err(error) => {
                    tracing::warn!(%key, error, "a stored instance is not understood; what it said before counts");
                }
            },
            Event::Delete { key, .. } => drop(records.remove(&key)),
        }
    }
}

fn parse(key: &Key, entry: &Entry) -> Result<Instance, String> {
    let instance = Instance::parse(&entry.value).map_err(|error| error.to_string())?;
    let own = keys::instance(&instance.service, &instance.id);
    if own == *key { Ok(instance) } else { Err(format!("it says that its key is `{own}`")) }
}

/// Who is where.
fn places(members: &[Member]) -> impl Iterator<Item = (NodeId, &str)> {
    members.iter().map(|member| (member.id, member.address.as_str()))
}

/// A member of the cluster as a node of the catalog, once it is known where it is.
fn node(member: &Member) -> Option<Node> {
    let host = member.address.parse::<Address>().ok()?.host;
    Some(Node { name: member.id.to_string().parse().ok()?, host })
}

/// What the proxy is to know: who is there, where, and whether it takes requests.
fn services<'a>(instances: impl Iterator<Item = &'a Arc<Instance>>) -> ServiceTable {
    let mut services: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    let mut tasks = services.clone();
    for instance in instances {
        let name = || instance.service.to_string();
        services.entry(name()).or_default().push(endpoint(instance));
        if [swarm::SOURCE, swarm::PLAIN_SOURCE].contains(&instance.source.as_str()) {
            tasks.entry(name()).or_default().push(endpoint(instance));
        }
    }
    ServiceTable::new(services).with_tasks(tasks)
}

fn endpoint(instance: &Instance) -> Endpoint {
    let host = match &instance.address.host {
        Host::Ip(ip) => DestinationHost::Address(*ip),
        Host::Name(name) => DestinationHost::Name(name.as_ref().into()),
    };
    let stopping = match instance.state {
        State::Up => false,
        State::Stopping => true,
    };
    Endpoint { host, port: instance.address.port, weight: instance.weight.get(), stopping }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use roo_discovery::SERVICE_DOMAIN;
    use roo_kv::Revision;
    use roo_proxy::Destination;

    use super::*;

    fn put(key: &str, value: &str) -> Event {
        let (create_revision, mod_revision) = (Revision(1), Revision(1));
        let value = Bytes::copy_from_slice(value.as_bytes());
        Event::Put {
            key: key.parse().unwrap(),
            entry: Entry { value, create_revision, mod_revision, version: 1, lease: None },
            previous: None,
        }
    }

    fn record(id: &str, port: u16) -> String {
        format!(r#"{{"version":1,"service":"shop","id":"{id}","address":"10.0.0.1:{port}","source":"api"}}"#)
    }

    fn ports(records: &Records) -> Vec<u16> {
        records.values().map(|instance| instance.address.port).collect()
    }

    #[test]
    fn what_is_not_understood_says_what_it_said_before() {
        let mut records = Records::new();
        let batch = |reset, events| Batch { reset, events, revision: Revision(1) };
        let (a, b) = ("com.roo.service:shop:a", "com.roo.service:shop:b");
        apply(&mut records, batch(true, vec![put(a, &record("a", 1)), put(b, &record("b", 2))]));
        assert_eq!(ports(&records), [1, 2]);
        // Of a later version, and under the key of another.
        let later = record("a", 3).replace("\"version\":1", "\"version\":2");
        apply(&mut records, batch(false, vec![put(a, &later), put(b, &record("a", 4))]));
        assert_eq!(ports(&records), [1, 2]);
        let delete = Event::Delete { key: a.parse().unwrap(), revision: Revision(2), expired: true, previous: None };
        apply(&mut records, batch(false, vec![delete]));
        assert_eq!(ports(&records), [2]);
        apply(&mut records, batch(true, Vec::new()));
        assert!(records.is_empty());
    }

    #[test]
    fn the_catalog_and_the_proxy_mean_the_same_domain() {
        let destination: Destination = format!("http://shop.{SERVICE_DOMAIN}").parse().unwrap();
        assert_eq!(destination.host, DestinationHost::Service("shop".into()));
    }
}
