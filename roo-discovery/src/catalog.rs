//! Everything known at one moment: services, their instances, and the nodes that these run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::Host;
use crate::instance::{Instance, State};
use crate::names::{InstanceId, NodeName, ServiceName};
use crate::rendezvous;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How the cluster calls it.
    pub name: NodeName,
    /// Where others reach it; used to tell that an instance at the same address runs on it.
    pub host: Host,
}

/// An immutable catalog. Two that are made of the same records are equal, in whatever order these came, and so is all
/// that they answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    services: BTreeMap<ServiceName, Vec<Arc<Instance>>>,
    nodes: BTreeMap<NodeName, Vec<Arc<Instance>>>,
}

impl Catalog {
    /// Builds a catalog. Of two records with the same service and id the later counts, of two nodes with the same name
    /// as well.
    ///
    /// An instance that does not say where it runs is taken to run on the node whose address it has, if exactly one
    /// node has it.
    pub fn new(instances: impl IntoIterator<Item = Arc<Instance>>, nodes: impl IntoIterator<Item = Node>) -> Catalog {
        let known: BTreeMap<NodeName, Host> = nodes.into_iter().map(|node| (node.name, node.host)).collect();
        let mut unique: BTreeMap<ServiceName, BTreeMap<InstanceId, Arc<Instance>>> = BTreeMap::new();
        for instance in instances {
            unique.entry(instance.service.clone()).or_default().insert(instance.id.clone(), instance);
        }
        let placed = |instance| placed(instance, &known);
        let services: BTreeMap<ServiceName, Vec<Arc<Instance>>> =
            unique.into_iter().map(|(name, of_it)| (name, of_it.into_values().map(placed).collect())).collect();
        let mut nodes: BTreeMap<NodeName, Vec<Arc<Instance>>> =
            known.keys().map(|name| (name.clone(), Vec::new())).collect();
        for instance in services.values().flatten() {
            if let Some(node) = &instance.node {
                nodes.entry(node.clone()).or_default().push(instance.clone());
            }
        }
        Catalog { services, nodes }
    }

    /// The services that have an instance, by name, each with its instances by id.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &[Arc<Instance>])> {
        self.services.iter().map(|(name, instances)| (name, instances.as_slice()))
    }

    /// The instances of a service, by id; none if nobody knows the service.
    pub fn instances(&self, service: &str) -> &[Arc<Instance>] {
        self.services.get(service).map_or(&[], Vec::as_slice)
    }

    /// One instance.
    pub fn instance(&self, service: &str, id: &str) -> Option<&Arc<Instance>> {
        let instances = self.instances(service);
        let place = instances.binary_search_by(|instance| instance.id.as_str().cmp(id)).ok()?;
        instances.get(place)
    }

    /// The nodes, by name, each with what runs on it, by service and id. A node that is no member of the cluster is
    /// among them if an instance says that it runs there.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &[Arc<Instance>])> {
        self.nodes.iter().map(|(name, instances)| (name, instances.as_slice()))
    }

    /// The instance of a service that a key belongs to, by rendezvous hash among those that take requests; the same on
    /// every node that knows the same instances. Weights do not count.
    pub fn find(&self, service: &str, key: &str) -> Option<&Instance> {
        let up = self.instances(service).iter().map(AsRef::as_ref).filter(|instance| instance.state == State::Up);
        rendezvous::highest(key, up)
    }
}

/// The instance with its node, as far as it can be told.
fn placed(instance: Arc<Instance>, nodes: &BTreeMap<NodeName, Host>) -> Arc<Instance> {
    if instance.node.is_some() {
        return instance;
    }
    let mut here = nodes.iter().filter(|(_, host)| **host == instance.address.host);
    match (here.next(), here.next()) {
        (Some((name, _)), None) => Arc::new(Instance { node: Some(name.clone()), ..Instance::clone(&instance) }),
        _ => instance,
    }
}

#[cfg(test)]
#[path = "catalog_test.rs"]
mod tests;
