//! One Docker engine: its namespace, its processes, and what it is asked.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::fleet::Run;
use crate::shell::{command, output, run_now};
use crate::support::api::{Answer, exchange, request};
use crate::support::wait::{PATIENCE, until};

/// An engine, which may be down.
pub struct Engine {
    /// From 1.
    pub number: usize,
    /// The node's address on the bridge.
    pub address: Ipv4Addr,
    directory: PathBuf,
    namespace: String,
    run: Run,
    daemon: Option<Child>,
}

impl Engine {
    /// A node that is connected to the bridge; its engine is down.
    pub fn new(run: Run, number: usize) -> Result<Self> {
        let directory = run.directory().join(number.to_string());
        std::fs::create_dir_all(&directory)?;
        let namespace = format!("{}-{number}", run.bridge());
        let address = run.address(10 + u8::try_from(number)?);
        let engine = Self { number, address, directory, namespace, run, daemon: None };
        engine.lay_cable()?;
        let path = |name: &str| engine.directory.join(name);
        let settings = json!({
            "data-root": path("data"), "exec-root": path("exec"), "pidfile": path("pid"),
            "hosts": ["unix:///run/docker.sock"],
        });
        std::fs::create_dir(path("run"))?;
        std::fs::write(path("daemon.json"), settings.to_string())?;
        Ok(engine)
    }

    /// The bridge's end of the node's cable.
    fn cable(&self) -> String {
        format!("{}v{}", self.run.bridge(), self.number)
    }

    /// Makes the namespace and its cable to the bridge.
    fn lay_cable(&self) -> Result<()> {
        let (namespace, bridge) = (&self.namespace, self.run.bridge());
        let cable = self.cable();
        // One of a fleet before may linger for a moment.
        drop(run_now("ip", &["link", "del", &cable]));
        run_now("ip", &["netns", "add", namespace])?;
        run_now("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
        run_now("ip", &["link", "set", &cable, "master", &bridge, "up"])?;
        let inside = |args: &[&str]| run_now("ip", &[&["-n", namespace], args].concat());
        inside(&["link", "set", "lo", "up"])?;
        inside(&["addr", "add", &format!("{}/24", self.address), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        // Else each look-up of a name outside would wait for its time to be over.
        inside(&["route", "add", "unreachable", "default"]).map(drop)
    }

    /// Starts the engine, for the first time or again, and waits until it answers.
    pub async fn start(&mut self) -> Result<()> {
        // One that was killed leaves them, and the process they name may be another one by now.
        for left in ["pid", "exec/containerd/containerd.pid"] {
            drop(std::fs::remove_file(self.directory.join(left)));
        }
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log"))?;
        // `ip netns exec` would hide the control groups. Containers that mount /var/run/docker.sock are to get this engine's.
        let mut daemon = Command::new("nsenter");
        daemon.arg(format!("--net=/run/netns/{}", self.namespace));
        daemon.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_OWN_RUN, "sh"]);
        daemon.args([self.path("run"), self.path("daemon.json")]);
        // Of its own group: an interrupt from the keyboard ends the test, which then ends the engines in order.
        daemon.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(daemon.spawn().context("dockerd")?);
        until("the engine answers", async || self.docker(&["info"]).await.map(drop))
            .await
            .with_context(|| format!("engine {}:\n{}", self.number, self.log_end()))
    }

    /// Joins the swarm of a manager as another one.
    pub async fn join(&self, manager: &Engine) -> Result<()> {
        let token = manager.docker(&["swarm", "join-token", "-q", "manager"]).await?;
        let (own, there) = (self.address.to_string(), format!("{}:2377", manager.address));
        self.docker(&["swarm", "join", "--advertise-addr", &own, "--token", &token, &there]).await.map(drop)
    }

    /// The node's id in the swarm.
    pub async fn id(&self) -> Result<String> {
        self.docker(&["info", "--format", "{{.Swarm.NodeID}}"]).await
    }

    /// Ends the engine and all that runs on it at once, as a power cut would.
    pub async fn kill(&mut self) -> Result<()> {
        kill_all_under(&self.directory);
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().await?;
        }
        // What the engine had set up for its containers is gone with a machine's power as well.
        run_now("ip", &["netns", "del", &self.namespace])?;
        drop(run_now("ip", &["link", "del", &self.cable()]));
        self.lay_cable()
    }

    /// Stops the engine as a restart of it does, which ends what runs on it in order. (One that is killed alone leaves
    /// behind rules for ports that some versions trip over when they start again.)
    pub async fn stop(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the engine is down")?;
        let id = daemon.id().context("the engine has ended")?;
        run_now("kill", &["-TERM", &id.to_string()])?;
        let ended = tokio::time::timeout(PATIENCE, daemon.wait()).await.context("the engine does not stop")?;
        ended.map(drop).context("the engine")
    }

    /// Where clients reach the engine.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.path("run/docker.sock")
    }

    /// A place for files beside the engine's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The docker command on this engine.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut docker = command("docker", args);
        docker.env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONTEXT");
        docker
    }

    /// What a docker command prints.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
        output(self.docker_command(args)).await
    }

    /// Asks the engine's API.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let stream = UnixStream::connect(self.socket()).await?;
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let mut request = request(method, "docker", path, bytes);
        request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        let answer = exchange(stream, request).await?;
        ensure!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.text());
        Ok(answer)
    }

    /// The id of the running container of a service on this node.
    pub async fn container(&self, service: &str) -> Result<String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let ids = self.docker(&["ps", "-q", "--filter", &filter, "--filter", "status=running"]).await?;
        // The newest, if an old one is about to end.
        Ok(ids.lines().next().with_context(|| format!("no {service} on node {}", self.number))?.to_owned())
    }

    /// The last lines of what each container has printed.
    pub async fn containers(&self) -> Result<String> {
        let mut text = String::new();
        for line in self.docker(&["ps", "-a", "--format", "{{.ID}} {{.Names}} {{.Status}}"]).await?.lines() {
            let id = line.split(' ').next().unwrap_or_default();
            let logs = self.docker_command(&["logs", "--tail", LINES, id]).output().await?;
            let (said, told) = (String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr));
            text += &format!("--- node {}: {line}\n{said}{told}", self.number);
        }
        Ok(text)
    }

    /// The last lines of the engine's log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Starts an engine that sees one directory as `/run`, with its settings from a file.
const IN_OWN_RUN: &str = r#"mount --bind "$1" /run && exec dockerd --config-file "$2""#;

/// How much of a container's log is shown.
const LINES: &str = "40";

/// Kills the engines whose files are in `directory`, and what they have started.
pub fn kill_all_under(directory: &Path) {
    // Twice: whatever was being started in between.
    for _ in 0..2 {
        for process in processes_under(directory) {
            drop(run_now("kill", &["-KILL", &process.to_string()]));
        }
    }
}

/// Engines, their parts and mounts name their directory on the command line; containers are children of those.
fn processes_under(directory: &Path) -> BTreeSet<u32> {
    let mark = format!("{}/", directory.display());
    let programs = ["dockerd", "containerd", "fuse-overlayfs", "docker-proxy", "sh"];
    let mut found = BTreeSet::new();
    let mut children = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let read = |name: &str| std::fs::read_to_string(process.path().join(name)).unwrap_or_default();
        let (name, line) = (read("comm"), read("cmdline"));
        if programs.iter().any(|program| name.starts_with(program)) && line.contains(&mark) {
            found.insert(id);
        }
        // `id (name) state parent …`; the name may hold anything.
        let parent = read("stat").rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        children.extend(parent.map(|parent| (parent, id)));
    }
    loop {
        let more: Vec<u32> = children
            .iter()
            .filter(|(parent, id)| found.contains(parent) && !found.contains(id))
            .map(|(_, id)| *id)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}
