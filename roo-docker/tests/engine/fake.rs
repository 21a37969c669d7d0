//! A Docker engine on a Unix socket that answers what a test tells it to.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::UnixListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the engine says to one kind of request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This status and body.
    Body(StatusCode, String),
    /// Nothing, ever.
    Silence,
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Body(StatusCode::OK, value.to_string())
    }

    pub(crate) fn raw(text: &str) -> Self {
        Self::Body(StatusCode::OK, text.to_owned())
    }

    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::Body(StatusCode::from_u16(status).unwrap(), json!({ "message": message }).to_string())
    }
}

/// The engine's script and memory.
pub(crate) struct Script {
    pub(crate) services: Answer,
    pub(crate) ping: Answer,
    /// All tasks, of which those are told that are asked for.
    pub(crate) tasks: Vec<Value>,
    /// Said instead of them.
    pub(crate) tasks_refused: Option<Answer>,
    /// The containers that run, as they are listed.
    pub(crate) running: Vec<Value>,
    /// By id; others are not there.
    pub(crate) containers: HashMap<String, Answer>,
    /// By name; others are not there.
    pub(crate) images: HashMap<String, Answer>,
    /// `None` while the event stream is open to all; otherwise what it says instead.
    pub(crate) events: Option<Answer>,
    /// Paths that a proxy before the engine lets through, `<name>` and the like for any part; all if there are none.
    pub(crate) let_through: Vec<String>,
    /// Path and query of every request, in order.
    pub(crate) requests: Vec<String>,
    streams: Vec<mpsc::UnboundedSender<Bytes>>,
}

pub(crate) struct FakeEngine {
    script: Arc<Mutex<Script>>,
    socket: PathBuf,
    running: Option<(CancellationToken, TaskTracker)>,
    _dir: tempfile::TempDir,
}

impl FakeEngine {
    /// An engine with these services that does not run yet.
    pub(crate) fn new(services: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = Script {
            services: Answer::json(services),
            ping: Answer::raw("OK"),
            tasks: Vec::new(),
            tasks_refused: None,
            running: Vec::new(),
            containers: HashMap::new(),
            images: HashMap::new(),
            events: None,
            let_through: Vec::new(),
            requests: Vec::new(),
            streams: Vec::new(),
        };
        Self { script: Arc::new(Mutex::new(script)), socket: dir.path().join("docker.sock"), running: None, _dir: dir }
    }

    pub(crate) fn started(services: &Value) -> Self {
        let mut engine = Self::new(services);
        engine.start();
        engine
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(crate) fn start(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            self.script.clone(),
            stop.clone(),
            tasks.clone(),
        )));
        self.running = Some((stop, tasks));
    }

    /// Ends the engine with all its connections, as a crash does.
    pub(crate) async fn stop(&mut self) {
        let (stop, tasks) = self.running.take().unwrap();
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        self.script().streams.clear();
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// Sends these bytes to all who listen to events; tells how many those are.
    pub(crate) fn emit(&self, bytes: &str) -> usize {
        let mut script = self.script();
        script.streams.retain(|stream| stream.send(Bytes::copy_from_slice(bytes.as_bytes())).is_ok());
        script.streams.len()
    }

    /// Ends all event streams, and nothing else.
    pub(crate) fn hang_up_events(&self) {
        self.script().streams.clear();
    }

    /// How often this path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.script().requests.iter().filter(|request| request.starts_with(path)).count()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.running {
            stop.cancel();
        }
    }
}

async fn accept(listener: UnixListener, script: Arc<Mutex<Script>>, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let script = script.clone();
        let service = service_fn(move |request| answer(request, script.clone()));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A watch may hang up at any time.
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move { connection.await.ok() }));
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, script: Arc<Mutex<Script>>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = {
        let mut script = script.lock().unwrap();
        script.requests.push(request.uri().to_string());
        if request.method() != Method::GET {
            return Ok(refused("only GET is let through"));
        }
        let is_let_through = |pattern: &String| fits(pattern, &path);
        if !script.let_through.is_empty() && !script.let_through.iter().any(is_let_through) {
            return Ok(refused("the proxy forbids it"));
        }
        match path.as_str() {
            "/services" => script.services.clone(),
            "/_ping" => script.ping.clone(),
            "/version" => Answer::json(&json!({ "Version": "20.10.24", "ApiVersion": "1.41" })),
            "/info" => Answer::json(&json!({ "Swarm": { "ControlAvailable": true } })),
            "/events" => match &script.events {
                Some(answer) => answer.clone(),
                None => return Ok(Response::new(open_stream(&mut script))),
            },
            "/tasks" => script.tasks_refused.clone().unwrap_or_else(|| tasks(&script.tasks, request.uri().query())),
            "/containers/json" => Answer::json(&json!(script.running)),
            container if container.starts_with("/containers/") => {
                let id = container.trim_start_matches("/containers/").trim_end_matches("/json");
                script.containers.get(id).cloned().unwrap_or_else(|| Answer::error(404, "No such container"))
            }
            image if image.starts_with("/images/") => {
                let name = image.trim_start_matches("/images/").trim_end_matches("/json");
                let missing = || Answer::error(404, &format!("No such image: {name}"));
                script.images.get(name).cloned().unwrap_or_else(missing)
            }
            _ => Answer::error(404, "page not found"),
        }
    };
    match answer {
        Answer::Silence => std::future::pending().await,
        Answer::Body(status, text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)).boxed());
            *response.status_mut() = status;
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            Ok(response)
        }
    }
}

/// Whether a path is of this pattern.
pub(crate) fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    patterns.clone().count() == parts.clone().count()
        && patterns.all(|pattern| parts.next().is_some_and(|part| pattern.starts_with('<') || pattern == part))
}

fn refused(why: &str) -> Response<Body> {
    let body = json!({ "message": why }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

/// Those that fit all filters, as an engine tells them.
fn tasks(all: &[Value], query: Option<&str>) -> Answer {
    let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let filters: Value = query
        .filter(|(name, _)| name == "filters")
        .map(|(_, value)| serde_json::from_str(&value).unwrap())
        .last()
        .unwrap();
    let fits = |task: &&Value| {
        [("id", "ID"), ("service", "ServiceID"), ("desired-state", "DesiredState")]
            .iter()
            .all(|(filter, field)| filters[*filter].as_array().is_none_or(|values| values.contains(&task[*field])))
    };
    Answer::json(&all.iter().filter(fits).cloned().collect())
}

fn open_stream(script: &mut Script) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    script.streams.push(sender);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok(Frame::data(bytes)), receiver))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// A service as the engine lists it, with labels on the service and on its containers.
pub(crate) fn service(name: &str, service_labels: &Value, container_labels: &Value) -> Value {
    json!({
        "ID": format!("id-{name}"),
        "Version": { "Index": 17 },
        "CreatedAt": "2024-05-01T10:00:00.123456789Z",
        "UpdatedAt": "2024-05-01T10:00:00.123456789Z",
        "Spec": {
            "Name": name,
            "Labels": service_labels,
            "TaskTemplate": {
                "ContainerSpec": { "Image": "x:latest", "Labels": container_labels, "Isolation": "default" },
                "ForceUpdate": 0,
                "Runtime": "container",
            },
            "Mode": { "Replicated": { "Replicas": 1 } },
            "EndpointSpec": {
                "Mode": "vip",
                "Ports": [
                    { "Protocol": "tcp", "TargetPort": 3000, "PublishMode": "host" },
                    { "Protocol": "udp", "TargetPort": 53, "PublishMode": "host" },
                ],
            },
        },
        "Endpoint": { "Spec": { "Mode": "vip" } },
    })
}

/// A service with the native label for this host.
pub(crate) fn site(name: &str, host: &str) -> Value {
    service(name, &json!({ "roo.host": host }), &json!({}))
}

/// A task of a service that [`site`] makes, in `forenet`.
pub(crate) fn task(id: &str, service: &str, state: &str, desired: &str, address: &str) -> Value {
    json!({
        "ID": id,
        "Version": { "Index": 21 },
        "CreatedAt": "2024-05-01T10:00:00.123456789Z",
        "Spec": { "ContainerSpec": { "Image": "x:latest" }, "Runtime": "teleport" },
        "ServiceID": format!("id-{service}"),
        "Slot": 1,
        "NodeID": "n1",
        "Status": { "Timestamp": "2024-05-01T10:00:00.123456789Z", "State": state, "ContainerStatus": null },
        "DesiredState": desired,
        "NetworksAttachments": [
            { "Network": { "ID": "ing", "Spec": { "Name": "ingress", "Ingress": true } }, "Addresses": ["10.0.0.9/24"] },
            { "Network": { "ID": "net", "Spec": { "Name": "forenet" } }, "Addresses": [format!("{address}/24")] },
        ],
    })
}

/// A container that `docker run` has started, with the native label for this host.
pub(crate) fn container(id: &str, name: &str, host: &str, address: &str) -> Value {
    json!({
        "Id": id,
        "Names": [format!("/{name}")],
        "Image": "x:latest",
        "Labels": { "roo.host": host },
        "State": "running",
        "Status": "Up 2 seconds",
        "Ports": [{ "PrivatePort": 80, "Type": "tcp" }],
        "NetworkSettings": { "Networks": { "forenet": { "IPAddress": address } } },
    })
}

/// An event of a container that is no task, as one line.
pub(crate) fn plain_event(action: &str, container: &str, name: &str) -> String {
    let actor = json!({ "ID": container, "Attributes": { "name": name, "image": "x:latest" } });
    let event =
        json!({ "Type": "container", "Action": action, "Actor": actor, "scope": "local", "time": 1, "timeNano": 1 });
    format!("{event}\n")
}

/// An event of the container of a task, as one line.
pub(crate) fn container_event(action: &str, container: &str, task: &str, signal: Option<&str>) -> String {
    let event = json!({
        "status": action,
        "id": container,
        "from": "x:latest",
        "Type": "container",
        "Action": action,
        "Actor": { "ID": container, "Attributes": {
            "com.docker.swarm.service.name": "a",
            "com.docker.swarm.task.id": task,
            "image": "x:latest",
            "signal": signal.unwrap_or_default(),
        } },
        "scope": "local",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_000_000_000_i64,
    });
    format!("{event}\n")
}

/// A service with this image that publishes nothing.
pub(crate) fn unpublished(name: &str, labels: &Value, image: &str) -> Value {
    let mut service = service(name, labels, &json!({}));
    service["Spec"]["EndpointSpec"]["Ports"] = json!([]);
    service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = json!(image);
    service
}

/// What the engine tells of an image that exposes these.
pub(crate) fn image(exposed: &[&str]) -> Answer {
    let ports: serde_json::Map<String, Value> = exposed.iter().map(|port| ((*port).to_owned(), json!({}))).collect();
    Answer::json(&json!({ "Id": "sha256:1", "Config": { "ExposedPorts": ports } }))
}

/// An event of a service, as one line.
pub(crate) fn event(action: &str) -> String {
    let event = json!({
        "Type": "service",
        "Action": action,
        "Actor": { "ID": "id-a", "Attributes": { "name": "a", "updatestate.new": "updating" } },
        "scope": "swarm",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_000_000_000_i64,
    });
    format!("{event}\n")
}
