//! The Docker engine, as far as Roo asks it. The only module that names bollard.
//!
//! All calls are GET on `/events`, `/services`, `/tasks`, `/images/<name>/json`, `/containers/json`,
//! `/containers/<id>/json`, `/networks/<id>` and `/_ping`, so a read-only socket is enough.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    errors::Error as BollardError,
    models,
    query_parameters::{
        EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptionsBuilder, ListServicesOptions,
        ListTasksOptionsBuilder,
    },
};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    containers,
    description::Description,
    kin::{Endpoint, OwnContainer, OwnService},
    labels::{Exposed, Ports},
    signals::ContainerEvent,
    tasks::Listed,
    tls::{Tls, TlsError},
    wire::{Wire, WireError},
};

/// Why the engine told us nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("--docker-host is '{host}': write unix:///path, tcp://host:port, http://host:port or https://host:port")]
    Host { host: String },
    #[error("no Docker socket at {path}: start Docker, mount the socket, or set --docker-host")]
    NoSocket { path: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the engine manages no swarm, so its services can't be read: {message}")]
    NotManager { message: String },
    #[error("the engine refused to {call} with status {status}: {message}")]
    Refused { call: &'static str, status: u16, message: String },
    #[error("the engine did not {call} within {} s", .after.as_secs_f32())]
    Timeout { call: &'static str, after: Duration },
    #[error("the engine closed the event stream")]
    EventsEnded,
    #[error("the engine at {host} did not {call}: {reason}")]
    Failed { host: String, call: &'static str, reason: String },
}

/// A client of one engine. Connects per call; holds nothing open but event streams.
pub(crate) struct Engine {
    docker: Docker,
    wire: Wire,
    host: String,
}

/// Which tasks are asked for.
#[derive(Debug)]
pub(crate) enum Which<'a> {
    /// Those that shall run, of these services at least; or of all.
    Wanted(Option<&'a BTreeSet<String>>),
    /// These, whatever shall become of them.
    Ids(&'a [&'a str]),
}

impl Engine {
    /// Prepares to talk to `host` (see [`crate::Config::host`]), by TLS if it is given or asked for. Looks for the socket
    /// file and reads those of TLS, nothing more.
    pub(crate) fn connect(host: Option<&str>, tls: Option<&Tls>) -> Result<Self, EngineError> {
        let host = host.unwrap_or(DEFAULT_SOCKET);
        let wire = if let Some(path) = socket_path(host) {
            if !Path::new(path).exists() {
                return Err(EngineError::NoSocket { path: path.into() });
            }
            Wire::unix(path)
        } else if let Some((authority, is_tls)) = tcp_authority(host) {
            let systems = is_tls.then(Tls::default);
            Wire::tcp(authority, tls.or(systems.as_ref()))?
        } else {
            return Err(EngineError::Host { host: host.into() });
        };
        let carry = {
            let wire = wire.clone();
            move |request: BollardRequest| {
                let wire = wire.clone();
                async move { wire.send(request).await.map_err(|error| BollardError::IOError { err: error.into_io() }) }
            }
        };
        let seconds = CALL_TIMEOUT.as_secs();
        match Docker::connect_with_custom_transport(carry, Some("http://docker"), seconds, API_DEFAULT_VERSION) {
            Ok(docker) => Ok(Self { docker, wire, host: host.to_owned() }),
            Err(error) => Err(refine(host, "answer", error)),
        }
    }

    /// All services of the swarm. Bounded by [`CALL_TIMEOUT`]; may be dropped at any time.
    pub(crate) async fn services(&self) -> Result<Vec<Description>, EngineError> {
        let list = self.docker.list_services(None::<ListServicesOptions>);
        let services = self.bounded("list services", CALL_TIMEOUT, list).await?;
        Ok(services.into_iter().filter_map(describe).collect())
    }

    /// Tasks of the swarm. Bounded by [`CALL_TIMEOUT`]; may be dropped at any time.
    pub(crate) async fn tasks(&self, which: &Which<'_>) -> Result<Vec<Listed>, EngineError> {
        const CALL: &str = "list tasks";
        let path = format!("/tasks?filters={}", which.filters());
        self.list(CALL, &path).await
    }

    /// The running containers of this engine. As [`tasks`](Self::tasks).
    pub(crate) async fn containers(&self) -> Result<Vec<containers::Listed>, EngineError> {
        self.list("list containers", "/containers/json").await
    }

    async fn list<T: DeserializeOwned>(&self, call: &'static str, path: &str) -> Result<Vec<T>, EngineError> {
        let answer = match timeout(CALL_TIMEOUT, self.wire.get(path)).await {
            Err(_) => return Err(EngineError::Timeout { call, after: CALL_TIMEOUT }),
            Ok(answer) => answer.map_err(|error| self.failed(call, error))?,
        };
        serde_json::from_slice(&answer).map_err(|error| self.failed(call, WireError::Answer(error.to_string())))
    }

    fn failed(&self, call: &'static str, error: WireError) -> EngineError {
        match error {
            WireError::Refused { message, .. } if message.contains(NOT_A_MANAGER) => {
                EngineError::NotManager { message }
            }
            WireError::Refused { status, message } => EngineError::Refused { call, status, message },
            other => EngineError::Failed { host: self.host.clone(), call, reason: other.to_string() },
        }
    }

    /// The TCP ports that an image exposes. A failure is part of the answer: it concerns this image alone.
    /// Bounded by [`IMAGE_TIMEOUT`]; may be dropped at any time.
    pub(crate) async fn exposed(&self, image: &str) -> Exposed {
        match self.bounded("inspect an image", IMAGE_TIMEOUT, self.docker.inspect_image(image)).await {
            Ok(inspected) => {
                let ports = inspected.config.and_then(|config| config.exposed_ports);
                Exposed::Ports(exposed_ports(&ports.unwrap_or_default()))
            }
            Err(EngineError::Refused { status: 404, .. }) => {
                Exposed::Unknown(format!("its image {image} is not on this manager, so what it exposes is not known"))
            }
            Err(error) => Exposed::Unknown(format!("what its image {image} exposes is not known, since {error}")),
        }
    }

    /// A container with what makes it a task; `None`: the engine has no such container.
    pub(crate) async fn container(&self, id: &str) -> Result<Option<OwnContainer>, EngineError> {
        let inspect = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        match self.bounded("inspect a container", CALL_TIMEOUT, inspect).await {
            Ok(container) => Ok(Some(own_container(container))),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The endpoints of a service's tasks on a network, as this engine heard of them from the others.
    pub(crate) async fn endpoints(&self, network: &str, service: &str) -> Result<Vec<Endpoint>, EngineError> {
        let options = InspectNetworkOptionsBuilder::new().verbose(true).build();
        let inspect = self.docker.inspect_network(network, Some(options));
        let inspected = self.bounded("inspect a network", CALL_TIMEOUT, inspect).await?;
        Ok(task_endpoints(inspected, service))
    }

    /// How many tasks of a service are meant to run.
    pub(crate) async fn meant_tasks(&self, service: &str) -> Result<usize, EngineError> {
        let only = |value: &str| vec![value.to_owned()];
        let filters = HashMap::from([("service", only(service))]);
        let list = self.docker.list_tasks(Some(ListTasksOptionsBuilder::new().filters(&filters).build()));
        Ok(places(self.bounded("list tasks", CALL_TIMEOUT, list).await?))
    }

    /// One item for each change of a service or a node. Ends with the connection or at the first undecodable event.
    pub(crate) fn events(&self) -> impl Stream<Item = Result<(), EngineError>> {
        let only = |value: &str| vec![value.to_owned()];
        let kinds = vec!["service".to_owned(), "node".to_owned()];
        let filters = HashMap::from([("scope", only("swarm")), ("type", kinds)]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let refined = |error| refine(&self.host, "send events", error);
        self.docker.events(Some(options)).map(move |event| event.map(drop).map_err(refined))
    }

    /// What happens to containers of this engine. Ends as [`events`](Self::events) does.
    pub(crate) fn container_events(&self) -> impl Stream<Item = Result<ContainerEvent, EngineError>> {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let actions = list(&["start", "kill", "stop", "die", "health_status"]);
        let filters = HashMap::from([("type", list(&["container"])), ("event", actions)]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let refined = |error| refine(&self.host, "send events", error);
        self.docker.events(Some(options)).map(move |event| event.map(container_event).map_err(refined))
    }

    /// The signal that a container is asked to end with, if its image or somebody chose one. Bounded by
    /// [`CALL_TIMEOUT`]; may be dropped at any time.
    pub(crate) async fn stop_signal(&self, container: &str) -> Option<String> {
        let inspect = self.docker.inspect_container(container, None);
        let inspected = self.bounded("inspect a container", CALL_TIMEOUT, inspect).await.ok()?;
        inspected.config?.stop_signal
    }

    /// Whether anybody is there: any answer within `limit` counts, a refusal too.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<(), EngineError> {
        match self.bounded("answer a ping", limit, self.docker.ping()).await {
            Ok(_) | Err(EngineError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn bounded<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<T, EngineError> {
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| refine(&self.host, call, error)),
            Err(_) => Err(EngineError::Timeout { call, after: limit }),
        }
    }
}

/// The path of a Unix socket, if `host` names one.
fn socket_path(host: &str) -> Option<&str> {
    host.strip_prefix("unix://").or_else(|| host.starts_with('/').then_some(host))
}

/// Where an engine on the network listens, if `host` names one, and whether it says that TLS is spoken there.
fn tcp_authority(host: &str) -> Option<(&str, bool)> {
    let (scheme, address) = host.split_once("://")?;
    let is_tls = match scheme {
        "tcp" | "http" => false,
        "https" => true,
        _ => return None,
    };
    (!address.trim_matches('/').is_empty()).then_some((address, is_tls))
}

impl Which<'_> {
    /// As the engine wants them: JSON in a query, whose only letters that need it are escaped.
    fn filters(&self) -> String {
        let filters = match self {
            // The engine looks each service up: beyond a few it is less work to be told of all.
            Self::Wanted(Some(services)) if services.len() <= SERVICES_NAMED_MAX => {
                serde_json::json!({ "desired-state": ["running"], "service": services })
            }
            Self::Wanted(_) => serde_json::json!({ "desired-state": ["running"] }),
            Self::Ids(ids) => serde_json::json!({ "id": ids }),
        };
        url::form_urlencoded::byte_serialize(filters.to_string().as_bytes()).collect()
    }
}

/// bollard's error in our terms.
fn refine(host: &str, call: &'static str, error: BollardError) -> EngineError {
    match error {
        BollardError::DockerResponseServerError { status_code, message } => {
            // The engine has one status (503) for "no manager", "locked" and "no quorum"; the text tells.
            if message.contains(NOT_A_MANAGER) {
                EngineError::NotManager { message }
            } else {
                EngineError::Refused { call, status: status_code, message }
            }
        }
        BollardError::RequestTimeoutError => EngineError::Timeout { call, after: CALL_TIMEOUT },
        other => EngineError::Failed { host: host.to_owned(), call, reason: chain(&other) },
    }
}

/// An error with all that caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn container_event(event: models::EventMessage) -> ContainerEvent {
    let actor = event.actor.unwrap_or_default();
    ContainerEvent {
        container: actor.id.unwrap_or_default(),
        action: event.action.unwrap_or_default(),
        attributes: actor.attributes.unwrap_or_default(),
    }
}

/// `None` for a service without id or name: nothing could be said about it, nor sent to it.
fn describe(service: models::Service) -> Option<Description> {
    let updating = service.update_status.and_then(|status| status.state).is_some_and(is_under_way);
    let spec = service.spec?;
    let container = spec.task_template.and_then(|task| task.container_spec);
    let published = spec.endpoint_spec.and_then(|endpoint| endpoint.ports);
    Some(Description {
        id: service.id.filter(|id| !id.is_empty())?,
        name: spec.name.filter(|name| !name.is_empty())?,
        service_labels: spec.labels.unwrap_or_default().into_iter().collect(),
        image: container.as_ref().and_then(|container| container.image.clone()).unwrap_or_default(),
        container_labels: container.and_then(|container| container.labels).unwrap_or_default().into_iter().collect(),
        ports: Ports { published: tcp_ports(published.unwrap_or_default()), exposed: Exposed::NotAsked },
        updating,
    })
}

fn is_under_way(state: models::ServiceUpdateStatusStateEnum) -> bool {
    use models::ServiceUpdateStatusStateEnum::{ROLLBACK_STARTED, UPDATING};
    matches!(state, UPDATING | ROLLBACK_STARTED)
}

/// The labels with which Swarm marks the container of a task.
const SERVICE_ID: &str = "com.docker.swarm.service.id";
const SERVICE_NAME: &str = "com.docker.swarm.service.name";

fn own_container(container: models::ContainerInspectResponse) -> OwnContainer {
    let mut labels = container.config.and_then(|config| config.labels).unwrap_or_default();
    let service = labels.remove(SERVICE_ID).zip(labels.remove(SERVICE_NAME)).map(|(id, name)| OwnService { id, name });
    let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let endpoints = networks
        .into_values()
        .filter_map(|network| Some((network.network_id?, endpoint(network.endpoint_id, network.ip_address)?)));
    OwnContainer { service, endpoints: endpoints.collect() }
}

/// On how many nodes, or in how many slots, a task is to run now or as soon as the one before it has ended: while one takes
/// the place of another the number stays.
fn places(tasks: Vec<models::Task>) -> usize {
    use models::TaskState::{COMPLETE, FAILED, ORPHANED, REJECTED, REMOVE, SHUTDOWN};
    let ends = |state| matches!(state, COMPLETE | FAILED | ORPHANED | REJECTED | REMOVE | SHUTDOWN);
    let meant = tasks.into_iter().filter(|task| !task.desired_state.is_some_and(ends));
    let places: BTreeSet<(Option<i64>, Option<String>)> =
        meant.map(|task| if task.slot.is_some() { (task.slot, None) } else { (None, task.node_id) }).collect();
    places.len()
}

/// The endpoints of a service's tasks; a form that this version does not know has none.
fn task_endpoints(network: models::NetworkInspect, service: &str) -> Vec<Endpoint> {
    let info = network.services.unwrap_or_default().remove(service).unwrap_or_default();
    let info: models::ServiceInfo = serde_json::from_value(info).unwrap_or_default();
    let tasks = info.tasks.unwrap_or_default().into_iter();
    tasks.filter_map(|task| endpoint(task.endpoint_id, task.endpoint_ip)).collect()
}

/// `None` while the endpoint has no address, or on a network without any.
fn endpoint(id: Option<String>, address: Option<String>) -> Option<Endpoint> {
    Some(Endpoint { id: id.filter(|id| !id.is_empty())?, address: address?.parse().ok()? })
}

fn tcp_ports(published: Vec<models::EndpointPortConfig>) -> Vec<u16> {
    use models::EndpointPortConfigProtocolEnum::{SCTP, UDP};
    let mut ports: Vec<u16> = published
        .into_iter()
        .filter(|port| !matches!(port.protocol, Some(UDP | SCTP)))
        .filter_map(|port| u16::try_from(port.target_port?).ok())
        .filter(|port| *port != 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Of texts such as `8080/tcp`; without a protocol it is TCP.
fn exposed_ports(texts: &[String]) -> Vec<u16> {
    let tcp = |text: &String| text.strip_suffix("/tcp").unwrap_or(text).parse().ok().filter(|port| *port != 0);
    let mut ports: Vec<u16> = texts.iter().filter_map(tcp).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Where Docker listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How the engine says that it manages no swarm, under a status that means other things too.
const NOT_A_MANAGER: &str = "not a swarm manager";

/// Services that are named in a question about tasks.
const SERVICES_NAMED_MAX: usize = 20;

/// For a whole answer; listing thousands of services takes well under a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// For one image; services wait for it.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn container(value: Value) -> OwnContainer {
        own_container(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_task_is_known_by_the_labels_of_its_container() {
        let networks = json!({
            "forenet": { "NetworkID": "inz", "EndpointID": "3206", "IPAddress": "10.0.1.4" },
            "starting": { "NetworkID": "abc", "EndpointID": "", "IPAddress": "" },
        });
        let labels = json!({ "com.docker.swarm.service.id": "v15", "com.docker.swarm.service.name": "roo_roo" });
        let task = container(json!({ "Config": { "Labels": labels }, "NetworkSettings": { "Networks": networks } }));
        assert_eq!(task.service, Some(OwnService { id: "v15".to_owned(), name: "roo_roo".to_owned() }));
        let endpoint = Endpoint { id: "3206".to_owned(), address: [10, 0, 1, 4].into() };
        assert_eq!(task.endpoints, HashMap::from([("inz".to_owned(), endpoint)]));

        let plain = container(json!({ "Config": { "Labels": { "com.docker.swarm.service.name": "roo_roo" } } }));
        assert_eq!(plain.service, None);
        assert!(plain.endpoints.is_empty() && container(json!({})).service.is_none());
    }

    #[test]
    fn a_task_that_takes_the_place_of_another_is_not_one_more() {
        let task = |node: &str, slot: Option<u64>, desired: &str| json!({ "NodeID": node, "Slot": slot, "DesiredState": desired });
        let count = |tasks: Value| places(serde_json::from_value(tasks).unwrap());
        let global = [task("a", None, "running"), task("b", None, "shutdown"), task("b", None, "ready")];
        assert_eq!(count(json!(global)), 2);
        let replicated = [task("a", Some(1), "running"), task("a", Some(2), "running"), task("b", Some(2), "running")];
        assert_eq!(count(json!(replicated)), 2);
        assert_eq!(count(json!([task("a", None, "shutdown"), task("b", None, "remove")])), 0);
    }

    #[test]
    fn endpoints_are_those_of_the_service_alone() {
        let network = json!({ "Services": {
            "": { "VIP": "<nil>", "Tasks": [{ "Name": "intruder", "EndpointID": "f522", "EndpointIP": "10.0.1.9" }] },
            "roo_roo": { "VIP": "10.0.1.2", "Ports": [], "LocalLBIndex": 256, "Tasks": [
                { "Name": "roo_roo.4lk.7dc", "EndpointID": "3206", "EndpointIP": "10.0.1.4", "Info": { "Host IP": "10.99.0.11" } },
                { "Name": "roo_roo.zbr.mll", "EndpointID": "4f5e", "EndpointIP": "10.0.1.5" },
                { "Name": "roo_roo.zh4.isp", "EndpointIP": "10.0.1.6" },
            ] },
        } });
        let inspected: models::NetworkInspect = serde_json::from_value(network).unwrap();
        let endpoints = |service: &str| -> Vec<String> {
            task_endpoints(inspected.clone(), service).into_iter().map(|endpoint| endpoint.id).collect()
        };
        assert_eq!(endpoints("roo_roo"), ["3206", "4f5e"]);
        assert!(endpoints("other").is_empty());
        assert!(task_endpoints(models::NetworkInspect::default(), "roo_roo").is_empty());
    }
}
