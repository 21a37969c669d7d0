//! The containers of one engine that belong to no service of a swarm: what `docker run` and Compose have started.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, pin_mut};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    claims,
    client::{Engine, EngineError},
    description::Description,
    labels::{Exposed, Ports},
    signals::{ContainerEvent, Stopping, stopping},
    snapshot::{Service, Snapshot, State, Task, TaskState},
    tasks::{Attachment, address, problem},
    watcher::{Config, keep_alive, unix_ms},
};

/// What is followed of an engine's own containers.
#[derive(Debug)]
pub struct Containers {
    /// Those without a service, as services with a task for each container. Only under [`State::Watching`] do they say
    /// what runs now.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What ends or is ill, of services too, the moment the engine says so.
    pub stopping: mpsc::Receiver<Stopping>,
}

/// Follows the containers of an engine until `shutdown`, whatever part it has in a swarm. Must be called inside a tokio
/// runtime.
///
/// Never fails: an engine that is away is tried again with growing pauses, without a word, since the watch of services
/// tells of it.
pub fn follow_containers(config: Config, shutdown: CancellationToken) -> Containers {
    let (publisher, snapshots) = watch::channel(Arc::new(Snapshot::connecting()));
    let (sender, stopping) = mpsc::channel(NOTICES_MAX);
    tokio::spawn(async move {
        shutdown.run_until_cancelled(run(config, publisher, sender)).await;
    });
    Containers { snapshots, stopping }
}

async fn run(config: Config, publisher: watch::Sender<Arc<Snapshot>>, sender: mpsc::Sender<Stopping>) {
    let mut backoff = Backoff::new(config.retry.min(config.resync), config.resync);
    loop {
        let (events, changed) = watch::channel(());
        let error = match Engine::connect(config.host.as_deref(), config.tls.as_ref()) {
            Ok(engine) => tokio::select! {
                biased;
                error = listen(&engine, &sender, &events) => error,
                error = keep_alive(&engine, config.ping) => error,
                error = follow(&engine, &config, &publisher, changed, &mut backoff) => error,
            },
            Err(error) => error,
        };
        tracing::debug!(%error, "the containers of this machine are not seen; tried again");
        let before = publisher.borrow().clone();
        publisher.send_replace(Arc::new(before.in_state(State::Unreachable { error: error.to_string() })));
        sleep(backoff.pause()).await;
    }
}

/// Tells at once what ends, and marks every change.
async fn listen(engine: &Engine, sender: &mpsc::Sender<Stopping>, changed: &watch::Sender<()>) -> EngineError {
    let events = engine.container_events();
    pin_mut!(events);
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                if let Some(stopping) = stopping(engine, &event).await
                    && sender.send(stopping).await.is_err()
                {
                    return EngineError::EventsEnded;
                }
                changed.send_replace(());
            }
            Some(Err(error)) => return error,
            None => return EngineError::EventsEnded,
        }
    }
}

/// Reads all containers at the start, after events and once per resync. The engine may tell of an end a moment before its
/// list does: after events it is asked twice.
async fn follow(
    engine: &Engine,
    config: &Config,
    publisher: &watch::Sender<Arc<Snapshot>>,
    mut changed: watch::Receiver<()>,
    backoff: &mut Backoff,
) -> EngineError {
    let mut pause = config.resync;
    loop {
        changed.mark_unchanged();
        let began = Instant::now();
        match engine.containers().await {
            Ok(listed) => publish(publisher, listed, &config.subnets.now()),
            Err(error) => return error,
        }
        backoff.reset();
        tokio::select! {
            Ok(()) = changed.changed() => {
                sleep_until(began + config.debounce).await;
                pause = SETTLE.min(config.resync);
            }
            () = sleep(pause) => pause = config.resync,
        }
    }
}

fn publish(publisher: &watch::Sender<Arc<Snapshot>>, listed: Vec<Listed>, nets: &[IpNet]) {
    let (services, problems) = services(listed, nets);
    let before = publisher.borrow().clone();
    for problem in problems.iter().filter(|problem| !before.problems.contains(problem)) {
        tracing::warn!(service = %problem.service, label = %problem.label, "{}", problem.message);
    }
    let is_new = before.state != State::Watching || before.services != services || before.problems != problems;
    if is_new {
        let synced_at = Some(unix_ms());
        let tasks_of = services.iter().map(|service| service.name.to_ascii_lowercase()).collect();
        publisher.send_replace(Arc::new(Snapshot {
            state: State::Watching,
            services,
            problems,
            synced_at,
            tasks_of,
            tasks_error: None,
        }));
    }
}

/// A running container as the engine lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    /// `Up 3 seconds (healthy)`.
    #[serde(default)]
    status: String,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    private_port: u16,
    #[serde(rename = "Type", default)]
    protocol: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    #[serde(rename = "IPAddress", default)]
    ip: String,
}

impl Listed {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// What its service would be called if it had one; `None` for a task of a swarm.
    fn service(&self) -> Option<String> {
        if self.label(SWARM_TASK).is_some() {
            return None;
        }
        let name = || self.names.first().map(|name| name.trim_start_matches('/').to_owned());
        compose_service(|label| self.label(label)).or_else(name).map(|name| one_part(&name))
    }

    fn attachments(&self) -> Vec<Attachment> {
        let networks = self.network_settings.iter().flat_map(|settings| settings.networks.iter().flatten());
        let attachment = |(network, endpoint): (&String, &Endpoint)| {
            Some(Attachment { network: network.clone(), address: endpoint.ip.parse::<IpAddr>().ok()? })
        };
        networks.filter_map(attachment).collect()
    }

    /// `None` while it has yet to say that it is healthy.
    fn state(&self) -> Option<TaskState> {
        match () {
            () if self.status.contains("(health: starting)") => None,
            () if self.status.contains("(unhealthy)") => Some(TaskState::Stopping),
            () => Some(TaskState::Running),
        }
    }

    fn ports(&self) -> Vec<u16> {
        let tcp = self.ports.iter().flatten().filter(|port| matches!(port.protocol.as_str(), "tcp" | ""));
        let mut ports: Vec<u16> = tcp.map(|port| port.private_port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// The service that a container of Compose is of, called as in a stack: `project_service`.
fn compose_service<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let service = label("com.docker.compose.service")?;
    Some(label("com.docker.compose.project").map_or(service.to_owned(), |project| format!("{project}_{service}")))
}

/// A name without dots, as services have it.
fn one_part(name: &str) -> String {
    name.replace('.', "-")
}

/// The instance that the container of an event is, if it is no task of a swarm.
pub(crate) fn instance(event: &ContainerEvent) -> Option<Stopping> {
    let attributes: &HashMap<String, String> = &event.attributes;
    let label = |name: &str| attributes.get(name).map(String::as_str);
    let service = compose_service(label).or_else(|| attributes.get("name").cloned())?;
    Some(Stopping { service: one_part(&service), task: event.container.clone() })
}

/// Containers as services, with what is wrong with their labels. Of several containers of one service the labels of the
/// first by id count.
fn services(mut listed: Vec<Listed>, nets: &[IpNet]) -> (Vec<Service>, Vec<crate::Problem>) {
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    let mut of_services: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
    for container in listed {
        if let Some(service) = container.service() {
            of_services.entry(service).or_default().push(container);
        }
    }
    let describe = |(name, containers): (&String, &Vec<Listed>)| {
        let first = containers.first()?;
        Some(Description {
            id: name.clone(),
            name: name.clone(),
            container_labels: first.labels.clone().unwrap_or_default(),
            ports: Ports { published: Vec::new(), exposed: Exposed::Ports(first.ports()) },
            ..Description::default()
        })
    };
    let (mut services, mut problems) = claims::settle(of_services.iter().filter_map(describe).collect());
    services.retain(|service| !service.routes.is_empty());
    for service in &mut services {
        for container in of_services.get(&service.name).into_iter().flatten() {
            let attachments = container.attachments();
            match (address(&attachments, service.network.as_deref(), nets), container.state()) {
                (Some(address), Some(state)) => {
                    service.tasks.push(Task { id: container.id.clone(), address, state });
                }
                (None, _) => problems.push(problem(service, &attachments)),
                (Some(_), None) => {}
            }
        }
    }
    problems.sort();
    problems.dedup();
    (services, problems)
}

/// Tells a task of a swarm from other containers.
pub(crate) const SWARM_TASK: &str = "com.docker.swarm.task.id";

/// From a look after an event to the next one.
const SETTLE: Duration = Duration::from_secs(1);

/// Notices that wait to be written.
const NOTICES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(id: &str, labels: &serde_json::Value, status: &str, address: &str) -> Listed {
        serde_json::from_value(json!({
            "Id": id, "Names": [format!("/name-{id}")], "Image": "x", "Labels": labels, "Status": status,
            "Ports": [{ "PrivatePort": 8080, "Type": "tcp" }, { "PrivatePort": 8080, "PublicPort": 80, "Type": "tcp" },
                      { "PrivatePort": 53, "Type": "udp" }],
            "NetworkSettings": { "Networks": { "other": { "IPAddress": "" }, "front": { "IPAddress": address } } },
        }))
        .expect("a container")
    }

    #[test]
    fn containers_of_compose_are_instances_of_one_service() {
        let compose = |host: &str| json!({ "com.docker.compose.project": "shop", "com.docker.compose.service": "web", "roo.host": host });
        let task = json!({ "roo.host": "c.example", SWARM_TASK: "t" });
        let nets = ["10.9.0.0/16".parse().expect("a network")];
        let (services, problems) = services(
            vec![
                listed("2", &compose("a.example"), "Up 3 seconds (unhealthy)", "10.9.0.2"),
                listed("1", &compose("a.example"), "Up 3 seconds (healthy)", "10.9.0.1"),
                listed("3", &compose("a.example"), "Up 1 second (health: starting)", "10.9.0.3"),
                listed("4", &json!({ "roo.host": "b.example" }), "Up 9 days", "10.9.0.4"),
                listed("5", &task, "Up 9 days", "10.9.0.5"),
                listed("6", &json!({}), "Up 9 days", "10.9.0.6"),
                listed("7", &json!({ "roo.host": "d.example" }), "Up 9 days", "10.8.0.7"),
            ],
            &nets,
        );
        let named: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(named, ["name-4", "name-7", "shop_web"]);
        let web = &services[2];
        assert_eq!(
            (web.routes[0].host.as_str(), web.routes[0].to[0].url.as_str()),
            ("a.example", "http://tasks.shop_web:8080")
        );
        let states: Vec<(&str, TaskState)> = web.tasks.iter().map(|task| (task.id.as_str(), task.state)).collect();
        assert_eq!(states, [("1", TaskState::Running), ("2", TaskState::Stopping)]);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!((problem.service.as_str(), problem.label.as_str()), ("name-7", "roo.network"));
    }
}
