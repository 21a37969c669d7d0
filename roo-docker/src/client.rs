//! The Docker engine, as far as Roo asks it. The only module that names bollard.
//!
//! All calls are GET on `/events`, `/services`, `/images/<name>/json` and `/_ping`, so a read-only socket is enough.

use std::{collections::HashMap, path::Path, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as BollardError,
    models,
    query_parameters::{EventsOptionsBuilder, ListServicesOptions},
};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::{
    description::Description,
    labels::{Exposed, Ports},
};

/// Why the engine told us nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("--docker-host is '{host}': write unix:///path, tcp://host:port or http://host:port")]
    Host { host: String },
    #[error("no Docker socket at {path}: start Docker, mount the socket, or set --docker-host")]
    NoSocket { path: String },
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
#[derive(Debug)]
pub(crate) struct Engine {
    docker: Docker,
    host: String,
}

impl Engine {
    /// Prepares to talk to `host` (see [`crate::Config::host`]). Looks for the socket file, nothing more.
    pub(crate) fn connect(host: Option<&str>) -> Result<Self, EngineError> {
        let host = host.unwrap_or(DEFAULT_SOCKET);
        let seconds = CALL_TIMEOUT.as_secs();
        let docker = if let Some(path) = socket_path(host) {
            if !Path::new(path).exists() {
                return Err(EngineError::NoSocket { path: path.into() });
            }
            Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION)
        } else if is_tcp(host) {
            Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION)
        } else {
            return Err(EngineError::Host { host: host.into() });
        };
        match docker {
            Ok(docker) => Ok(Self { docker, host: host.to_owned() }),
            Err(error) => Err(refine(host, "answer", error)),
        }
    }

    /// All services of the swarm. Bounded by [`CALL_TIMEOUT`]; may be dropped at any time.
    pub(crate) async fn services(&self) -> Result<Vec<Description>, EngineError> {
        let list = self.docker.list_services(None::<ListServicesOptions>);
        let services = self.bounded("list services", CALL_TIMEOUT, list).await?;
        Ok(services.into_iter().filter_map(describe).collect())
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

    /// One item for each change of a service. Ends with the connection or at the first undecodable event.
    pub(crate) fn events(&self) -> impl Stream<Item = Result<(), EngineError>> {
        let only = |value: &str| vec![value.to_owned()];
        let filters = HashMap::from([("scope", only("swarm")), ("type", only("service"))]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let refined = |error| refine(&self.host, "send events", error);
        self.docker.events(Some(options)).map(move |event| event.map(drop).map_err(refined))
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

/// Whether `host` names an engine on the network.
fn is_tcp(host: &str) -> bool {
    let address = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://"));
    address.is_some_and(|address| !address.trim_matches('/').is_empty())
}

/// bollard's error in our terms.
fn refine(host: &str, call: &'static str, error: BollardError) -> EngineError {
    match error {
        BollardError::DockerResponseServerError { status_code, message } => {
            // The engine has one status (503) for "no manager", "locked" and "no quorum"; the text tells.
            if message.contains("not a swarm manager") {
                EngineError::NotManager { message }
            } else {
                EngineError::Refused { call, status: status_code, message }
            }
        }
        BollardError::RequestTimeoutError => EngineError::Timeout { call, after: CALL_TIMEOUT },
        BollardError::HyperLegacyError { err } => {
            EngineError::Failed { host: host.to_owned(), call, reason: chain(&err) }
        }
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

/// `None` for a service without id or name: nothing could be said about it, nor sent to it.
fn describe(service: models::Service) -> Option<Description> {
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
    })
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

/// For a whole answer; listing thousands of services takes well under a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// For one image; services wait for it.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(3);
