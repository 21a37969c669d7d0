//! The store half: writes and linearizable reads of Roo and etcd, over HTTP, with real `fsync`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::client::{self, Action};
use crate::options::Options;
use crate::series::Series;
use crate::server::Server;
use crate::support::api::{request, send};
use crate::support::context::Context;
use crate::support::wait::until;
use crate::table::Table;
use crate::{cpu, etcd, machine, roo};

/// Concurrent clients, where there is more than one.
const CLIENTS: usize = 64;
/// Concurrent writers, where there are very many.
const CROWD: usize = 256;
/// Between two rounds, so that one store's work in the background does not fall into the other's round.
const PAUSE: Duration = Duration::from_millis(500);

/// A running store.
pub struct Store {
    pub name: &'static str,
    pub dialect: Dialect,
    pub members: Vec<Member>,
}

/// One node of a store.
pub struct Member {
    pub address: SocketAddr,
    pub server: Server,
}

/// How a store is spoken to.
#[derive(Debug, Clone)]
pub enum Dialect {
    Roo {
        token: String,
    },
    /// The JSON gateway of etcd 3.4.
    Etcd,
}

impl Dialect {
    pub fn write(&self, key: &str, value: &[u8]) -> Result<Request<Bytes>> {
        match self {
            Self::Roo { .. } => self.roo(Method::PUT, &format!("/roo/v1/kv/{key}"), Bytes::copy_from_slice(value)),
            Self::Etcd => Ok(Self::etcd("put", &json!({ "key": encoded(key), "value": encoded(value) }))),
        }
    }

    /// A read: linearizable, or of what the node has.
    pub fn read(&self, key: &str, stale: bool) -> Result<Request<Bytes>> {
        let level = if stale { "stale" } else { "linearizable" };
        match self {
            Self::Roo { .. } => self.roo(Method::GET, &format!("/roo/v1/kv/{key}?level={level}"), Bytes::new()),
            Self::Etcd => Ok(Self::etcd("range", &json!({ "key": encoded(key), "serializable": stale }))),
        }
    }

    /// Whether the answer to a read shows `value`.
    pub fn holds(&self, answer: &[u8], value: &[u8]) -> bool {
        match self {
            Self::Roo { .. } => answer == value,
            Self::Etcd => serde_json::from_slice::<Value>(answer)
                .is_ok_and(|answer| answer["kvs"][0]["value"] == encoded(value).as_str()),
        }
    }

    /// Whether the node at `address` leads.
    async fn leads(&self, address: SocketAddr) -> Result<bool> {
        match self {
            Self::Roo { .. } => {
                let status = send(address, self.roo(Method::GET, "/roo/v1/status", Bytes::new())?).await?.json()?;
                Ok(status["role"] == "leader")
            }
            Self::Etcd => {
                let asked = request(Method::POST, "etcd", "/v3/maintenance/status", "{}");
                let status = send(address, asked).await?.json()?;
                Ok(status["leader"].is_string() && status["leader"] == status["header"]["member_id"])
            }
        }
    }

    fn roo(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>> {
        let mut request = request(method, "roo", path, body);
        if let Self::Roo { token } = self {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        Ok(request)
    }

    fn etcd(verb: &str, body: &Value) -> Request<Bytes> {
        request(Method::POST, "etcd", &format!("/v3/kv/{verb}"), body.to_string())
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

impl Store {
    pub async fn leader(&self) -> Result<SocketAddr> {
        until(&format!("a node of {} leads", self.name), async || {
            for member in &self.members {
                if self.dialect.leads(member.address).await? {
                    return Ok(member.address);
                }
            }
            anyhow::bail!("none does")
        })
        .await
        .with_context(|| self.members.iter().map(|member| member.server.output()).collect::<String>())
    }

    /// Waits until the only node of a store leads.
    pub async fn wait_for_leader(dialect: &Dialect, address: SocketAddr) -> Result<()> {
        until("the node leads", async || {
            ensure!(dialect.leads(address).await?, "it does not");
            Ok(())
        })
        .await
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    fn roots(&self) -> Result<Vec<u32>> {
        self.members.iter().map(|member| member.server.id()).collect()
    }
}

/// What clients do in one row of the table.
#[derive(Debug, Clone, Copy)]
enum Case {
    /// One client writes at the leader.
    OneWriter,
    /// So many write, spread over all nodes.
    Writers(usize),
    /// Many read, spread over all nodes.
    Readers,
    /// Many read what each node has, as fresh as it may be.
    StaleReaders,
}

impl Case {
    const ALL: [Self; 5] =
        [Self::OneWriter, Self::Writers(CLIENTS), Self::Writers(CROWD), Self::Readers, Self::StaleReaders];

    fn name(self) -> String {
        match self {
            Self::OneWriter => "1 writer".to_owned(),
            Self::Writers(count) => format!("{count} writers"),
            Self::Readers => format!("{CLIENTS} readers"),
            Self::StaleReaders => format!("{CLIENTS} stale readers"),
        }
    }
}

/// The figures of one store in one case.
#[derive(Default)]
struct Figures {
    rate: Series,
    /// Median duration of an operation in milliseconds.
    p50: Series,
    /// Milliseconds of processor time of all nodes per 1,000 operations.
    cpu: Series,
}

/// Measures; gives a section in Markdown.
pub async fn run(options: &Options) -> Result<String> {
    let mut table = Table::new(["", "Roo", "etcd", "Roo / etcd"]);
    let context = Context::new();
    let kind = machine::file_system(context.dir())?;
    let floor = [machine::sync_time(context.dir())?, machine::round_trip()?];
    compare(options, &mut table, "1 node", [roo::cluster(&context, 1).await?, etcd::cluster::<1>(&context)?]).await?;
    let context = Context::new();
    compare(options, &mut table, "3 nodes", [roo::cluster(&context, 3).await?, etcd::cluster::<3>(&context)?]).await?;
    let mut text = "\n### Store\n\n".to_owned();
    writeln!(
        text,
        "Beside etcd {}, both over HTTP (etcd by its JSON gateway), values of {} bytes, same client program, all data \
         on one disk ({kind}), nodes on loopback sharing all cores with the clients. One writer asks the leader, \
         {CLIENTS} clients are spread over all nodes; reads are linearizable. Roo checks a token and its nodes speak \
         mutual TLS; etcd does neither. CPU is that of all nodes. The least a write can take here, before the run: \
         {:.3} ms for an fdatasync after an append of 4 KiB, {:.3} ms for a byte there and back over loopback.\n",
        etcd::version(),
        client::value().len(),
        floor[0],
        floor[1],
    )?;
    write!(text, "{table}")?;
    Ok(text)
}

/// Measures both stores in all cases and adds rows for clusters of this `size`.
async fn compare(options: &Options, table: &mut Table, size: &str, stores: [Store; 2]) -> Result<()> {
    for store in &stores {
        client::prepare(store.leader().await?, &store.dialect).await.with_context(|| store.name)?;
    }
    for case in Case::ALL {
        let [roo, etcd] = measure(options, size, case, &stores).await?;
        let mut row = |what: &str, of: fn(&Figures) -> &Series, digits: usize| {
            let (mine, theirs) = (of(&roo), of(&etcd));
            let cell = |series: &Series| format!("{:.digits$}", series.median());
            let name = format!("{size}, {}: {what}", case.name());
            table.row([name, cell(mine), cell(theirs), mine.over(theirs).to_string()]);
        };
        let (rate, cpu) = match case {
            Case::Readers | Case::StaleReaders => ("reads/s", "CPU ms per 1,000 reads"),
            Case::OneWriter | Case::Writers(_) => ("writes/s", "CPU ms per 1,000 writes"),
        };
        row(rate, |figures| &figures.rate, 0);
        row("p50 in ms", |figures| &figures.p50, 2);
        row(cpu, |figures| &figures.cpu, 0);
    }
    Ok(())
}

/// Loads the stores in turn, round by round.
async fn measure(options: &Options, size: &str, case: Case, stores: &[Store; 2]) -> Result<[Figures; 2]> {
    let mut all: [Figures; 2] = Default::default();
    for round in 1..=options.rounds {
        for (store, figures) in stores.iter().zip(&mut all) {
            tokio::time::sleep(PAUSE).await;
            let line = round_of(options, case, store, figures).await.with_context(|| store.name)?;
            eprintln!("{size}, {}, round {round}, {}: {line}", case.name(), store.name);
        }
    }
    Ok(all)
}

/// One round; gives a line that tells how it went.
async fn round_of(options: &Options, case: Case, store: &Store, figures: &mut Figures) -> Result<String> {
    let (action, count, addresses) = match case {
        Case::OneWriter => (Action::Write, 1, vec![store.leader().await?]),
        Case::Writers(count) => (Action::Write, count, store.addresses()),
        Case::Readers => (Action::Read, CLIENTS, store.addresses()),
        Case::StaleReaders => (Action::ReadStale, CLIENTS, store.addresses()),
    };
    let roots = store.roots()?;
    let (nodes_start, own_start) = (cpu::spent(&roots)?, cpu::own()?);
    let done = client::run(action, count, &addresses, &store.dialect, options.round()).await?;
    let nodes = (cpu::spent(&roots)? - nodes_start).as_secs_f64();
    let own = (cpu::own()? - own_start).as_secs_f64();
    ensure!(done.count() > 0.0, "no operation ended");
    let (rate, cpu) = (done.per_second(), nodes * 1e3 / (done.count() / 1e3));
    let p50 = done.p50().as_secs_f64() * 1e3;
    figures.rate.push(rate);
    figures.p50.push(p50);
    figures.cpu.push(cpu);
    let seconds = options.round().as_secs_f64();
    Ok(format!(
        "{rate:.0}/s, p50 {p50:.2} ms, {cpu:.0} ms per 1,000; cores: nodes {:.2}, clients {:.2}",
        nodes / seconds,
        own / seconds
    ))
}
