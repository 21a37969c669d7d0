//! A Docker Swarm of several engines on this machine.
//!
//! Each engine lives in a network namespace of its own on a common bridge, where the test is too: node 1 is `10.x.y.11`,
//! and its published ports are reached there. Its mounts are its own as well, so that `/var/run/docker.sock` is the socket
//! of that very engine, and all that it has mounted goes with it. All names and the subnet come from this process' id, so that two runs
//! do not meet. A fleet goes when it is dropped, also by a panic, and by signals; what a killed run left is taken away
//! by the next one.
//!
//! Kernels without IPVS have neither virtual addresses nor the routing mesh. Nothing here needs them: ports are
//! published in host mode, and services are reached by the addresses of their tasks.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};

use crate::engine::Engine;
use crate::image::Images;
use crate::shell::run_now;

/// Directories of all runs.
const DIRECTORIES: &str = "roo-swarm-";

/// A running swarm. All nodes are managers.
pub struct Fleet {
    run: Run,
    nodes: Vec<Engine>,
}

/// The names of what a process makes.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    process: u32,
}

impl Fleet {
    /// Starts as many engines and joins them to one swarm.
    pub async fn up(count: usize) -> Result<Self> {
        clear_leftovers();
        // From here on it is taken down, however far it comes.
        let mut fleet = Self { run: Run { process: std::process::id() }, nodes: Vec::new() };
        fleet.run.lay_bridge()?;
        for number in 1..=count {
            fleet.nodes.push(Engine::new(fleet.run, number)?);
        }
        try_join_all(fleet.nodes.iter_mut().map(Engine::start)).await?;
        let (first, others) = fleet.nodes.split_first().context("a fleet has nodes")?;
        first.docker(&["swarm", "init", "--advertise-addr", &first.address.to_string()]).await?;
        for node in others {
            node.join(first).await?;
        }
        Ok(fleet)
    }

    /// Brings the images of Roo and of the service behind it to all nodes.
    pub async fn load_images(&mut self) -> Result<()> {
        let first = self.nodes.first().context("a fleet has nodes")?;
        let images = Images::of_this_build(first, self.run).await?;
        try_join_all(self.nodes.iter().map(|node| images.load(node))).await.map(drop)
    }

    /// One more node, of the swarm that `manager` is in, with the images.
    pub async fn add(&mut self, manager: usize) -> Result<()> {
        let mut node = Engine::new(self.run, self.nodes.len() + 1)?;
        node.start().await?;
        node.join(self.node(manager)).await?;
        Images::of_this_build(&node, self.run).await?.load(&node).await?;
        self.nodes.push(node);
        Ok(())
    }

    /// The nodes, the first one of which made the swarm.
    pub fn nodes(&self) -> &[Engine] {
        &self.nodes
    }

    /// A node by its number, from 1.
    pub fn node(&self, number: usize) -> &Engine {
        &self.nodes[number - 1]
    }

    pub fn node_mut(&mut self, number: usize) -> &mut Engine {
        &mut self.nodes[number - 1]
    }
}

impl Fleet {
    /// Prints what each node has to say, for who looks for a fault.
    pub async fn tell(&self) {
        for node in &self.nodes {
            eprintln!("--- engine {}\n{}", node.number, node.log_end());
            match node.containers().await {
                Ok(containers) => eprintln!("{containers}"),
                Err(error) => eprintln!("--- containers of node {}: {error:#}", node.number),
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.run.take_down();
    }
}

/// Why there can be no fleet here, if so.
pub fn missing() -> Option<String> {
    let user = run_now("id", &["-u"]).unwrap_or_default();
    if user != "0" {
        return Some("only root may make network namespaces and start engines".to_owned());
    }
    let programs = [
        ("dockerd", "docker.io"),
        ("docker", "docker.io"),
        ("ip", "iproute2"),
        ("iptables", "iptables"),
        ("nsenter", "util-linux"),
        ("objcopy", "binutils"),
    ];
    let is_there = |program: &str| run_now("sh", &["-c", &format!("command -v {program}")]).is_ok();
    let (program, package) = programs.into_iter().find(|(program, _)| !is_there(program))?;
    Some(format!("{program} is missing (Debian: {package})"))
}

/// Takes the fleet down when the process is told to end, which drops nothing.
pub fn end_on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("signals");
            let mut terminate = signal(SignalKind::terminate()).expect("signals");
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let run = Run { process: std::process::id() };
        run.take_down();
        run.forget_images();
        std::process::exit(130);
    });
}

/// Takes away what fleets of this process have in common, once there are no more of them.
pub fn forget_images() {
    Run { process: std::process::id() }.forget_images();
}

/// Takes away what runs that were killed have left.
fn clear_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix(DIRECTORIES)?.split('-').next()?.parse::<u32>().ok());
        if let Some(process) = process
            && !Path::new(&format!("/proc/{process}")).exists()
        {
            eprintln!("taking away what process {process} has left");
            Run { process }.take_down();
            Run { process }.forget_images();
        }
    }
}

impl Run {
    /// Where engines keep what they have.
    pub fn directory(self) -> PathBuf {
        std::env::temp_dir().join(format!("{DIRECTORIES}{}", self.process))
    }

    /// Where the images are, which all fleets of a process have in common.
    pub fn images(self) -> PathBuf {
        std::env::temp_dir().join(format!("{DIRECTORIES}{}-images.tar", self.process))
    }

    fn forget_images(self) {
        // None may have been built.
        drop(std::fs::remove_file(self.images()));
    }

    /// The address with this last number. Swarm gives its networks subnets from 10.0.0.0 on, and never comes this far.
    pub fn address(self, last: u8) -> Ipv4Addr {
        let [_, _, high, low] = self.process.to_be_bytes();
        Ipv4Addr::new(10, 64 + high % 128, low, last)
    }

    /// The bridge's name; an interface's has 15 letters at most.
    pub fn bridge(self) -> String {
        format!("roo{}", self.process)
    }

    fn lay_bridge(self) -> Result<()> {
        std::fs::create_dir_all(self.directory())?;
        let bridge = self.bridge();
        run_now("ip", &["link", "add", &bridge, "type", "bridge"])?;
        run_now("ip", &["link", "set", &bridge, "up"])?;
        run_now("ip", &["addr", "add", &format!("{}/24", self.address(1)), "dev", &bridge])?;
        // Where bridges are filtered too, an engine of the machine drops what it has not asked for.
        let mut allow = vec!["-I"];
        allow.extend(forward_rule(&bridge));
        run_now("iptables", &allow).map(drop)
    }

    /// Ends all of it. What is not there is no fault: the run may not have come far.
    fn take_down(self) {
        let directory = self.directory();
        crate::engine::kill_all_under(&directory);
        let bridge = self.bridge();
        let namespaces = run_now("ip", &["-o", "netns", "list"]).unwrap_or_default();
        let own = format!("{bridge}-");
        for namespace in namespaces.lines().filter_map(|line| line.split(' ').next()) {
            if namespace.starts_with(&own) {
                drop(run_now("ip", &["netns", "del", namespace]));
            }
        }
        // They go with their namespaces, but only when the kernel comes to it: the next fleet may be sooner.
        let links = run_now("ip", &["-o", "link", "show", "type", "veth"]).unwrap_or_default();
        let of_run = format!("{bridge}v");
        let names = links.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
        for link in names.filter(|name| name.starts_with(&of_run)) {
            drop(run_now("ip", &["link", "del", link]));
        }
        let mut forbid = vec!["-D"];
        forbid.extend(forward_rule(&bridge));
        drop(run_now("iptables", &forbid));
        drop(run_now("ip", &["link", "del", &bridge]));
        if let Err(error) = std::fs::remove_dir_all(&directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("{} is left: {error}", directory.display());
        }
    }
}

fn forward_rule(bridge: &str) -> [&str; 7] {
    ["FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]
}

/// Says what is being done.
pub fn step(what: &str) {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = clock.as_secs();
    eprintln!("  {:02}:{:02}:{:02} {what}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
}
