//! Where services run: their tasks, and what is to become of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::{
    client::{Engine, EngineError, Which},
    labels::Fault,
    snapshot::{Problem, Service, Task, TaskState},
    subnets,
};

/// What was read of the tasks last.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// By id.
    known: BTreeMap<String, Known>,
    /// Whether a task is on its way up or down.
    moving: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    service: String,
    attachments: Vec<Attachment>,
    state: TaskState,
}

/// A task's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) address: IpAddr,
}

/// A task as the engine lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "ServiceID", default)]
    service: String,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    desired_state: String,
    #[serde(default)]
    networks_attachments: Option<Vec<ListedAttachment>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(default)]
    state: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedAttachment {
    network: Network,
    #[serde(default)]
    addresses: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(default)]
    spec: NetworkSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSpec {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ingress: bool,
}

impl Tasks {
    /// Reads the tasks of these services, by their ids.
    ///
    /// # Errors
    /// The engine's; what was known stays.
    pub(crate) async fn read(&mut self, engine: &Engine, services: &BTreeSet<String>) -> Result<(), EngineError> {
        if services.is_empty() {
            *self = Self::default();
            return Ok(());
        }
        let wanted = match engine.tasks(&Which::Wanted(Some(services))).await {
            // One of the services was removed meanwhile.
            Err(EngineError::Refused { status: 404, .. }) => engine.tasks(&Which::Wanted(None)).await?,
            answer => answer?,
        };
        let wanted: Vec<Listed> = wanted.into_iter().filter(|task| services.contains(&task.service)).collect();
        let still = wanted.iter().map(|task| task.id.as_str()).collect::<BTreeSet<_>>();
        let vanished: Vec<&str> = self.known.keys().map(String::as_str).filter(|id| !still.contains(id)).collect();
        let leaving = match &vanished[..] {
            [] => Vec::new(),
            ids => engine.tasks(&Which::Ids(ids)).await?,
        };
        self.take(wanted, leaving);
        Ok(())
    }

    /// Whether the next look should come soon.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving
    }

    /// Takes in the tasks that shall run, and what is left of those that no longer shall.
    fn take(&mut self, wanted: Vec<Listed>, leaving: Vec<Listed>) {
        let mut known = BTreeMap::new();
        self.moving = false;
        for task in wanted {
            let before = self.known.get(&task.id);
            let state = match task.status.state.as_str() {
                "running" if task.desired_state == "running" => TaskState::Running,
                // It ran and does so no more, or is to stop: tasks never start again.
                _ if before.is_some() && !task.has_ended() => TaskState::Stopping,
                _ => {
                    self.moving |= !task.has_ended();
                    continue;
                }
            };
            known.insert(task.id.clone(), task.known(state));
        }
        for task in leaving.into_iter().filter(|task| !task.has_ended()) {
            if self.known.contains_key(&task.id) {
                known.insert(task.id.clone(), task.known(TaskState::Stopping));
            }
        }
        self.moving |= known.values().any(|task| task.state == TaskState::Stopping);
        self.known = known;
    }

    /// Gives each service its tasks, at the addresses that can be reached from `nets`.
    pub(crate) fn place(&self, services: &mut [Service], nets: &[IpNet]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for service in services {
            let own: Vec<(&String, &Known)> =
                self.known.iter().filter(|(_, known)| known.service == service.id).collect();
            let reached = |known: &Known| address(&known.attachments, service.network.as_deref(), nets);
            let tasks = own.iter().filter_map(|(id, known)| {
                Some(Task { id: (*id).clone(), address: reached(known)?, state: known.state })
            });
            let tasks: Vec<Task> = tasks.collect();
            let lost = own.iter().find(|(_, known)| reached(known).is_none());
            if let (Some((_, known)), false) = (lost, service.routes.is_empty()) {
                problems.push(problem(service, &known.attachments));
            }
            service.tasks = tasks;
        }
        problems
    }
}

/// Why no address of a task can be reached.
pub(crate) fn problem(service: &Service, attachments: &[Attachment]) -> Problem {
    unreachable(attachments, service.network.clone()).problem(&service.name, NETWORK.to_owned())
}

fn unreachable(attachments: &[Attachment], asked: Option<String>) -> Fault {
    let networks = attachments.iter().map(|attachment| attachment.network.clone()).collect::<Vec<_>>();
    match asked {
        Some(value) if !networks.iter().any(|network| is_called(network, &value)) => {
            Fault::NetworkNotJoined { value, networks }
        }
        Some(value) => Fault::NetworkNotOurs { value },
        None => Fault::NoSharedNetwork { networks },
    }
}

/// The first address that is in one of our networks, in the network that was asked for if one was.
pub(crate) fn address(attachments: &[Attachment], asked: Option<&str>, nets: &[IpNet]) -> Option<IpAddr> {
    let fits = |attachment: &&Attachment| asked.is_none_or(|asked| is_called(&attachment.network, asked));
    let addresses = attachments.iter().filter(fits).map(|attachment| attachment.address);
    addresses.into_iter().find(|address| subnets::reach(nets, *address))
}

/// Whether a network has this name, or has it behind the name of its stack.
fn is_called(network: &str, name: &str) -> bool {
    network == name || network.strip_suffix(name).is_some_and(|stack| stack.ends_with('_'))
}

impl Listed {
    /// Whether nothing of it runs any more, or ever will.
    fn has_ended(&self) -> bool {
        matches!(self.status.state.as_str(), "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned")
    }

    fn known(self, state: TaskState) -> Known {
        Known { service: self.service.clone(), attachments: self.attachments(), state }
    }

    fn attachments(self) -> Vec<Attachment> {
        let listed = self.networks_attachments.unwrap_or_default();
        // The network of published ports is nobody's to speak in.
        let listed = listed.into_iter().filter(|attachment| !attachment.network.spec.ingress);
        let each = listed.flat_map(|attachment| {
            let network = attachment.network.spec.name;
            let addresses = attachment.addresses.unwrap_or_default();
            addresses.into_iter().filter_map(move |address| {
                let address = address.split('/').next()?.parse().ok()?;
                Some(Attachment { network: network.clone(), address })
            })
        });
        each.collect()
    }
}

/// The label that chooses among networks.
const NETWORK: &str = "roo.network";

#[cfg(test)]
#[path = "tasks_test.rs"]
mod tests;
