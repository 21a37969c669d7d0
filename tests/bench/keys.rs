//! Many keys on one node: the time of a restart, memory, and disk, beside etcd.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::options::Options;
use crate::store::{Dialect, Store};
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::process::Process;
use crate::table::Table;
use crate::{client, disk, etcd, machine};

/// Keys, with values of 100 bytes.
const KEYS: usize = 1_000_000;
const QUICK_KEYS: usize = 5_000;
/// How often each key is written again.
const OVERWRITES: usize = 2;
const CLIENTS: usize = 256;

/// A figure beyond this is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store of one node that can be started again.
struct Subject<'a> {
    data: PathBuf,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Roo { start: Box<Start>, node: Option<Node> },
    Etcd { context: &'a Context, ports: [SocketAddr; 2], process: Option<Process> },
}

/// What was measured of one store.
struct Figures {
    restart: Duration,
    memory: u64,
    disk: u64,
    disk_later: u64,
}

/// Measures; gives a section in Markdown.
pub async fn run(options: &Options) -> Result<String> {
    let keys = if options.quick { QUICK_KEYS } else { KEYS };
    let context = Context::new();
    machine::file_system(context.dir())?;
    let roo = Subject {
        data: context.path("keys"),
        kind: Kind::Roo { start: Box::new(Start::new(&context, "keys").secret()?), node: None },
    };
    let roo = measure(roo, keys).await?;
    let ports = crate::ports::free::<2>()?;
    let etcd = Subject { data: context.path("etcd-0"), kind: Kind::Etcd { context: &context, ports, process: None } };
    let etcd = measure(etcd, keys).await?;

    // Keys are `fill/<number>`.
    let live: usize = (0..keys).map(|k| format!("fill/{k}").len() + client::value().len()).sum();
    let mut table = Table::new(["", "Roo", "etcd", "Roo / etcd"]);
    let mut row = |what: &str, of: &dyn Fn(&Figures) -> f64| {
        let (mine, theirs) = (of(&roo), of(&etcd));
        table.row([what.to_owned(), format!("{mine:.2}"), format!("{theirs:.2}"), format!("**{:.2}**", mine / theirs)]);
    };
    row("kill -9 and start until a linearizable read is answered, s", &|f| f.restart.as_secs_f64());
    row("resident memory after the start, MiB", &|f| f.memory as f64 / f64::from(1 << 20));
    row("disk per byte of keys and values", &|f| f.disk as f64 / live as f64);
    row("the same after each key was written twice more", &|f| f.disk_later as f64 / live as f64);
    let mut text = String::new();
    writeln!(text, "\n### {keys} keys\n\nOne node, values of {} bytes, one run each.\n", client::value().len())?;
    write!(text, "{table}")?;
    Ok(text)
}

async fn measure(mut subject: Subject<'_>, keys: usize) -> Result<Figures> {
    let (address, dialect) = subject.start().await?;
    client::fill(CLIENTS, &[address], &dialect, keys).await?;
    let disk = disk::used(&subject.data)?;
    for _ in 0..OVERWRITES {
        client::fill(CLIENTS, &[address], &dialect, keys).await?;
    }
    let disk_later = disk::used(&subject.data)?;
    subject.kill().await?;
    let begin = Instant::now();
    let (address, dialect) = subject.start().await?;
    while let Err(error) = client::check(address, &dialect, keys - 1).await {
        ensure!(begin.elapsed() < PATIENCE, "it does not come back: {error:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let restart = begin.elapsed();
    let memory = machine::memory(subject.pid()?)?;
    eprintln!(
        "{keys} keys, {}: restart {restart:.2?}, {memory} B, disk {disk} B, later {disk_later} B",
        subject.name()
    );
    subject.kill().await?;
    Ok(Figures { restart, memory, disk, disk_later })
}

impl Subject<'_> {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Roo { .. } => "Roo",
            Kind::Etcd { .. } => "etcd",
        }
    }

    /// Starts it; says where and how it is asked.
    async fn start(&mut self) -> Result<(SocketAddr, Dialect)> {
        match &mut self.kind {
            Kind::Roo { start, node } => {
                let started = start.spawn().await?;
                let token = started.api.token.clone().unwrap_or_default();
                let address = started.api.address;
                *node = Some(started);
                ready(address, &Dialect::Roo { token }).await
            }
            Kind::Etcd { context, ports: [client, peer], process } => {
                *process = Some(etcd::node(context, 0, *client, &[*peer])?);
                ready(*client, &Dialect::Etcd).await
            }
        }
    }

    async fn kill(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Roo { node: Some(node), .. } => node.process.kill().await,
            Kind::Etcd { process: Some(process), .. } => process.kill().await,
            Kind::Roo { .. } | Kind::Etcd { .. } => Ok(()),
        }
    }

    fn pid(&self) -> Result<u32> {
        let process = match &self.kind {
            Kind::Roo { node, .. } => node.as_ref().map(|node| &node.process),
            Kind::Etcd { process, .. } => process.as_ref(),
        };
        process.and_then(Process::id).ok_or_else(|| anyhow::anyhow!("{} does not run", self.name()))
    }
}

/// Waits until there is a leader.
async fn ready(address: SocketAddr, dialect: &Dialect) -> Result<(SocketAddr, Dialect)> {
    Store::wait_for_leader(dialect, address).await?;
    Ok((address, dialect.clone()))
}
