//! Nodes of Roo as processes.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::api::Api;
use super::context::{Context, roo_bin};
use super::https::Https;
use super::ports::free_port_at;
use super::process::Process;
use super::wait::until;

/// The secret of all clusters in tests.
pub const SECRET: &str = "a secret for the end to end tests";

/// One node.
pub struct Node {
    pub process: Process,
    pub api: Api,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub raft: SocketAddr,
}

/// How to start a node.
#[derive(Clone)]
pub struct Start {
    data_dir: PathBuf,
    log: PathBuf,
    args: Vec<String>,
    /// The program that runs it, and that program's arguments.
    under: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    /// Certificates come from the internal CA.
    authority: bool,
    http_port: u16,
    https_port: u16,
    token: Option<String>,
    ip: String,
    raft_port: u16,
}

impl Start {
    /// A node on loopback with ports that the system picks, its data under `name`.
    pub fn new(context: &Context, name: &str) -> Self {
        Self {
            data_dir: context.path(name),
            log: context.path(&format!("{name}.log")),
            args: ["--workers", "1"].map(str::to_owned).to_vec(),
            under: Vec::new(),
            environment: Vec::new(),
            authority: true,
            http_port: 0,
            https_port: 0,
            token: None,
            ip: "127.0.0.1".to_owned(),
            raft_port: 0,
        }
    }

    /// Adds arguments.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// Has another program run it.
    #[allow(dead_code, reason = "only the benchmarks need it")]
    pub fn under(mut self, program: impl IntoIterator<Item = String>) -> Self {
        self.under.extend(program);
        self
    }

    /// Sets a variable of the environment.
    #[allow(dead_code, reason = "only the tests under faults need it")]
    pub fn environment(mut self, name: &str, value: impl Into<PathBuf>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Gives the node the secret of the tests.
    pub fn secret(mut self) -> Result<Self> {
        self.token = Some(token()?);
        Ok(self.args(["--secret", SECRET]))
    }

    /// Gives a node that has the secret of the tests another one in its place. Its token stays as it was.
    #[allow(dead_code, reason = "the tests under faults have one secret")]
    pub fn with_secret(mut self, secret: &str) -> Self {
        for argument in self.args.iter_mut().filter(|argument| *argument == SECRET) {
            *argument = secret.to_owned();
        }
        self
    }

    /// Leaves it to further arguments where certificates come from.
    pub fn without_authority(mut self) -> Self {
        self.authority = false;
        self
    }

    /// Fixes the port for plain http.
    pub fn http(mut self, port: u16) -> Self {
        self.http_port = port;
        self
    }

    /// Fixes the port for https.
    pub fn https(mut self, port: u16) -> Self {
        self.https_port = port;
        self
    }

    /// Fixes the Raft address.
    pub fn raft(mut self, address: SocketAddr) -> Self {
        self.ip = address.ip().to_string();
        self.raft_port = address.port();
        self
    }

    /// Starts it and waits until its ports are known.
    pub async fn spawn(&self) -> Result<Node> {
        let mut command = match self.under.split_first() {
            None => Command::new(roo_bin()),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(roo_bin());
                command
            }
        };
        let any = format!("{}:0", self.ip);
        let http = format!("{}:{}", self.ip, self.http_port);
        let https = format!("{}:{}", self.ip, self.https_port);
        let raft = format!("{}:{}", self.ip, self.raft_port);
        command.arg("run").args(["--http", &http, "--https", &https, "--api", &any, "--raft", &raft]);
        if self.authority {
            command.args(["--acme-directory", "internal"]);
        }
        command.arg("--data-dir").arg(&self.data_dir).args(&self.args);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROO_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned());
        let known = known_lines(&self.log)?;
        let mut process = Process::spawn(command, &self.log)?;
        let [http, https, api, raft] = self.ports(&mut process, known).await?;
        Ok(Node { process, api: Api { address: api, token: self.token.clone() }, http, https, raft })
    }

    /// Finds a node again that has started itself anew: its ports have changed.
    pub async fn follow(&self, node: &mut Node) -> Result<()> {
        let ended = until("the node has ended", async || {
            let output = node.process.output();
            let at = output.lines().position(|line| line.contains("ends and starts again"));
            at.context("it goes on")
        });
        let known = ended.await?;
        let [http, https, api, raft] = self.ports(&mut node.process, known).await?;
        (node.http, node.https, node.raft, node.api.address) = (http, https, raft, api);
        Ok(())
    }

    /// The ports that the node tells after so many lines.
    async fn ports(&self, process: &mut Process, known: usize) -> Result<[SocketAddr; 4]> {
        until("the node tells its ports", async || {
            ensure!(process.is_running(), "the node ended:\n{}", process.output());
            let output = process.output();
            let lines = || output.lines().skip(known).filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let port = |name: &str| {
                let line = lines().find(|line| line["listener"] == name).with_context(|| format!("no {name}"))?;
                line["address"].as_str().unwrap_or_default().parse::<SocketAddr>().context("an address")
            };
            Ok([port("http")?, port("https")?, port("api")?, port("raft")?])
        })
        .await
    }
}

impl Node {
    /// Waits until the node is ready.
    pub async fn ready(&self) -> Result<()> {
        until("the node is ready", async || {
            let answer = self.api.get("/readyz").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await
        .with_context(|| format!("the node printed:\n{}", tail(&self.process.output())))
    }

    /// A client that trusts the internal CA of this node's cluster.
    pub async fn https_client(&self) -> Result<Https> {
        let pem = until("the internal CA exists", async || {
            let answer = self.api.get("/roo/v1/ca").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(answer.text())
        })
        .await?;
        Https::trusting(&pem)
    }

    /// Sets a route.
    pub async fn route(&self, origin: &str, route: &str) -> Result<()> {
        self.api.put(&format!("com.roo.host:{origin}"), route.to_owned()).await
    }

    /// Ends it by SIGTERM and waits for a clean exit.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal("TERM").await?;
        let status = self.process.wait().await?;
        ensure!(status.success(), "the node ended with {status}:\n{}", tail(&self.process.output()));
        Ok(())
    }

    /// The id of the cluster, once there is one.
    pub async fn cluster_id(&self) -> Result<String> {
        let status = self.api.status().await?;
        status["cluster"].as_str().map(str::to_owned).context("no cluster yet")
    }
}

/// How many lines a log has. If the process before was killed in the middle of one, that one ends here.
fn known_lines(log: &Path) -> Result<usize> {
    let Ok(text) = std::fs::read_to_string(log) else { return Ok(0) };
    if !text.is_empty() && !text.ends_with('\n') {
        writeln!(std::fs::OpenOptions::new().append(true).open(log)?)?;
    }
    Ok(text.lines().count())
}

/// The token that belongs to [`SECRET`].
pub fn token() -> Result<String> {
    let output = std::process::Command::new(roo_bin()).args(["token", "--secret", SECRET]).output()?;
    ensure!(output.status.success(), "roo token: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The last lines of a log.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Addresses on loopback that nobody listens on, one per host 127.0.0.K.
pub fn free_addresses(count: u8) -> Result<Vec<SocketAddr>> {
    hosts(count).map(|host| Ok(SocketAddr::new(host, free_port_at(&[host])?))).collect()
}

/// As [`free_addresses`], all with one port.
#[allow(dead_code, reason = "only nodes that are found by a name need it")]
pub fn free_addresses_on_one_port(count: u8) -> Result<Vec<SocketAddr>> {
    let hosts: Vec<IpAddr> = hosts(count).collect();
    let port = free_port_at(&hosts)?;
    Ok(hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect())
}

fn hosts(count: u8) -> impl Iterator<Item = IpAddr> {
    (1..=count).map(|k| IpAddr::from([127, 0, 0, k]))
}

/// A cluster whose nodes find each other by a list of Raft addresses.
pub struct Cluster {
    pub starts: Vec<Start>,
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Plans `count` nodes without starting any.
    pub fn plan(context: &Context, count: u8, more: &[&str]) -> Result<Vec<Start>> {
        let addresses = free_addresses(count)?;
        let peers = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let start = |(k, address): (usize, &SocketAddr)| {
            let start = Start::new(context, &format!("node-{k}")).raft(*address);
            Ok(start.secret()?.args(["--peers", &peers, "--start-delay", "200ms"]).args(more.iter().copied()))
        };
        addresses.iter().enumerate().map(start).collect()
    }

    /// Starts `count` nodes at once and waits until they are one cluster.
    pub async fn start(context: &Context, count: u8, more: &[&str]) -> Result<Self> {
        let starts = Self::plan(context, count, more)?;
        let mut nodes = Vec::new();
        for start in &starts {
            nodes.push(start.spawn().await?);
        }
        let cluster = Self { starts, nodes };
        cluster.formed().await?;
        Ok(cluster)
    }

    /// Waits until all nodes are voters of one cluster and ready.
    pub async fn formed(&self) -> Result<()> {
        formed(&self.nodes).await
    }

    /// The place of the leader among the nodes that `asked` can tell of.
    pub async fn leader(&self) -> Result<usize> {
        until("one node leads", async || {
            for (k, node) in self.nodes.iter().enumerate() {
                if let Ok(status) = node.api.status().await
                    && status["role"] == "leader"
                {
                    return Ok(k);
                }
            }
            anyhow::bail!("none does")
        })
        .await
    }
}

/// Waits until `nodes` are voters of one cluster and ready.
pub async fn formed(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        node.ready().await?;
    }
    until("all nodes vote in one cluster", async || {
        let first = nodes[0].cluster_id().await?;
        for node in nodes {
            let status = node.api.status().await?;
            ensure!(status["cluster"] == first.as_str(), "another cluster: {status}");
            let members = status["nodes"].as_array().cloned().unwrap_or_default();
            let voters = members.iter().filter(|member| member["role"] != "learner").count();
            ensure!(members.len() == nodes.len() && voters == nodes.len(), "members: {members:?}");
        }
        Ok(())
    })
    .await
}
