//! The difference between the tasks that are seen and the instances in the store. Pure.
//!
//! All tasks hang on one lease, which the holder of the lock keeps alive: if nobody can see tasks any more they go, and the
//! DNS has to tell where services are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roo_discovery::{Address, Host, Instance, InstanceId, Metadata, ServiceName, Source, State, Weight};
use roo_docker::{Service, Snapshot, Task, TaskState};
use roo_kv::{Batch, Entry, Event, Key, LeaseId, Revision};
use roo_proxy::{Destination, DestinationHost};

use crate::app::routes::Routes;
use crate::keys;

/// The door of tasks.
pub(crate) const SOURCE: &str = "docker";
/// The door of containers that belong to no service.
pub(crate) const PLAIN_SOURCE: &str = "container";
/// How long tasks are believed to be where they were seen last.
pub(super) const TTL: Duration = Duration::from_secs(30);
/// Where nothing says on which port a service listens. A destination names its own.
const PORT: u16 = 80;

/// The instances in the store that are tasks, by key.
pub(super) type Records = BTreeMap<Key, Record>;

/// A task in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) revision: Revision,
    pub(super) lease: Option<LeaseId>,
    pub(super) instance: Instance,
}

/// What to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put { key: Key, instance: Instance, seen: Option<Revision> },
    Delete { key: Key, seen: Revision },
}

/// Follows what is in the store. Records of other doors, and those that can't be read, are passed over.
pub(super) fn apply(records: &mut Records, batch: Batch, door: &str) {
    if batch.reset {
        records.clear();
    }
    for event in batch.events {
        match event {
            Event::Put { key, entry, .. } => match record(&entry, door) {
                Some(record) => drop(records.insert(key, record)),
                None => drop(records.remove(&key)),
            },
            Event::Delete { key, .. } => drop(records.remove(&key)),
        }
    }
}

fn record(entry: &Entry, door: &str) -> Option<Record> {
    let instance = Instance::parse(&entry.value).ok().filter(|instance| instance.source.as_str() == door)?;
    Some(Record { revision: entry.mod_revision, lease: entry.lease, instance })
}

/// Which keys hold something else than a task: a record of another door, or one that this version can't read.
pub(super) fn apply_foreign(foreign: &mut BTreeSet<Key>, batch: &Batch, door: &str) {
    if batch.reset {
        foreign.clear();
    }
    for event in &batch.events {
        match event {
            Event::Put { key, entry, .. } if record(entry, door).is_none() => drop(foreign.insert(key.clone())),
            Event::Put { key, .. } | Event::Delete { key, .. } => drop(foreign.remove(key)),
        }
    }
}

impl Change {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// Whether it takes out a task of a service that is led to and whose tasks nobody has looked for yet.
    pub(super) fn is_early(&self, snapshot: &Snapshot, records: &Records, led: &BTreeSet<String>) -> bool {
        let Self::Delete { key, .. } = self else { return false };
        let Some(service) = records.get(key).map(|record| record.instance.service.to_string()) else { return false };
        let exists = || snapshot.services.iter().any(|seen| seen.name.eq_ignore_ascii_case(&service));
        led.contains(&service) && !snapshot.tasks_of.contains(&service) && exists()
    }
}

/// What to write so that the store has the tasks that are seen, all on `lease`. What stops does not come back: whoever
/// said so first knew more.
pub(super) fn plan(snapshot: &Snapshot, records: &Records, lease: LeaseId, door: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut seen = BTreeSet::new();
    for (service, task) in snapshot.services.iter().flat_map(|s| s.tasks.iter().map(move |task| (s, task))) {
        let Some(mut instance) = instance(service, task, door) else { continue };
        let key = keys::instance(&instance.service, &instance.id);
        let record = records.get(&key);
        if record.is_some_and(|record| record.instance.state == State::Stopping) {
            instance.state = State::Stopping;
        }
        if record.is_none_or(|record| record.lease != Some(lease) || record.instance != instance) {
            changes.push(Change::Put { key: key.clone(), instance, seen: record.map(|record| record.revision) });
        }
        seen.insert(key);
    }
    let gone = records.iter().filter(|(key, _)| !seen.contains(*key));
    changes.extend(gone.map(|(key, record)| Change::Delete { key: key.clone(), seen: record.revision }));
    // First what must get nothing new, then what may.
    changes.sort_by_key(|change| match change {
        Change::Put { instance, .. } => instance.state == State::Up,
        Change::Delete { .. } => false,
    });
    changes
}

/// A task as an instance; `None` if Swarm calls its service as no service may be called.
fn instance(service: &Service, task: &Task, door: &str) -> Option<Instance> {
    Some(Instance {
        service: service.name.parse::<ServiceName>().ok()?,
        id: task.id.parse::<InstanceId>().ok()?,
        address: Address { host: Host::Ip(task.address), port: service.port.unwrap_or(PORT) },
        node: None,
        source: door.parse::<Source>().ok()?,
        state: match task.state {
            TaskState::Running => State::Up,
            TaskState::Stopping => State::Stopping,
        },
        weight: Weight::default(),
        metadata: Metadata::default(),
        ttl: Some(TTL),
    })
}

/// The names in destinations that may be services of the Swarm.
pub(super) fn led_to(routes: &Routes) -> BTreeSet<String> {
    let routes = routes.iter().filter_map(|(_, stored)| stored.parsed.as_ref().ok());
    routes.flat_map(|(_, route)| &route.to).filter_map(|to| service_of(&to.destination)).collect()
}

fn service_of(destination: &Destination) -> Option<String> {
    match &destination.host {
        DestinationHost::Service(name) => Some(name.to_string()),
        DestinationHost::Name(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let name = name.strip_prefix("tasks.").unwrap_or(name);
            (!name.contains('.')).then(|| name.to_owned())
        }
        DestinationHost::Address(_) | DestinationHost::Unix(_) => None,
    }
}

#[cfg(test)]
#[path = "instances_test.rs"]
mod tests;
