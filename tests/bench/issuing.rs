//! How soon names have certificates of an ACME CA: Roo and Caddy, each with a Pebble of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::options::Options;
use crate::series::Series;
use crate::server::Server;
use crate::store::Dialect;
use crate::support::api::{request, send};
use crate::support::cluster::Start;
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::pebble::Pebble;
use crate::support::process::Process;
use crate::support::wait::until;
use crate::table::Table;
use crate::{client, cpu, ports, program};

const NAMES: usize = 100;

/// Later than this is a failure.
const PATIENCE: Duration = Duration::from_secs(600);

/// What became of all names of one program, round by round.
#[derive(Default)]
struct Figures {
    /// Seconds from the registration of all until this one's first good handshake.
    first: Series,
    median: Series,
    last: Series,
    cpu: Series,
    orders: Series,
}

/// Measures; gives a section in Markdown.
///
/// # Errors
///
/// If a program does not start, or a name gets no certificate.
pub async fn run(options: &Options) -> Result<String> {
    let names: Vec<String> = (0..if options.quick { 3 } else { NAMES }).map(|k| format!("n{k}.shop.example")).collect();
    let (mut roo, mut caddy) = (Figures::default(), Figures::default());
    for round in 0..options.rounds {
        roo.add(with_roo(&names).await.context("Roo")?);
        caddy.add(with_caddy(&names).await.context("Caddy")?);
        eprintln!("round {round}: the last name after {:.1} and {:.1} s", roo.last.median(), caddy.last.median());
    }
    let mut table = Table::new(["", "first, s", "median, s", "last, s", "CPU, s", "orders at the CA"]);
    let version = program::version(&program::path("caddy"), "version");
    for (name, figures) in [("Roo".to_owned(), &roo), (format!("Caddy {version}"), &caddy)] {
        let seconds = |series: &Series| format!("{:.2}", series.median());
        let orders = format!("{:.0}", figures.orders.median());
        table.row([
            name,
            seconds(&figures.first),
            seconds(&figures.median),
            seconds(&figures.last),
            seconds(&figures.cpu),
            orders,
        ]);
    }
    Ok(format!(
        "\n### Certificates of a CA\n\n{} names are registered at once: by the API, for Caddy as one configuration. Each is then tried \
         until a handshake succeeds. The CA is Pebble, which refuses every tenth nonce, asks by http-01, and \
         waits for nothing. One process each.\n\n{table}",
        names.len()
    ))
}

/// What one round has shown.
struct Round {
    /// Seconds, sorted.
    times: Vec<f64>,
    cpu: f64,
    orders: usize,
}

impl Figures {
    fn add(&mut self, round: Round) {
        let Round { times, cpu, orders } = round;
        self.first.push(times.first().copied().unwrap_or_default());
        self.median.push(times.get(times.len() / 2).copied().unwrap_or_default());
        self.last.push(times.last().copied().unwrap_or_default());
        self.cpu.push(cpu);
        self.orders.push(f64::from(u32::try_from(orders).unwrap_or(u32::MAX)));
    }
}

async fn with_roo(names: &[String]) -> Result<Round> {
    let context = Context::new();
    let [http] = ports::free()?;
    let pebble = Pebble::start(&context, http.port(), Ipv4Addr::LOCALHOST).await?;
    let (directory, file) = (pebble.directory(), pebble.ca_file.display().to_string());
    let start = Start::new(&context, "roo").secret()?.http(http.port()).without_authority();
    let node = start.args(["--acme-directory", &directory, "--acme-ca-file", &file]).spawn().await?;
    node.ready().await?;
    let pid = node.process.id().context("the node has ended")?;
    let dialect = Dialect::Roo { token: node.api.token.clone().context("no token")? };
    let members = [node.api.address];
    // Nobody is asked for anything: the certificate is what counts.
    let routes = names.iter().map(|name| (format!("com.roo.host:{name}:https"), b"http://127.0.0.1:1".to_vec()));
    let (spent, began) = (cpu::spent(&[pid])?, Instant::now());
    let (written, times) =
        tokio::join!(client::write_all(8, &members, &dialect, routes), handshakes(&pebble, node.https, names, began));
    written?;
    Ok(Round { times: times?, cpu: (cpu::spent(&[pid])? - spent).as_secs_f64(), orders: pebble.orders() })
}

async fn with_caddy(names: &[String]) -> Result<Round> {
    let context = Context::new();
    let [http, https, admin] = ports::free()?;
    let pebble = Pebble::start(&context, http.port(), Ipv4Addr::LOCALHOST).await?;
    let config = json!({
        "admin": { "listen": admin.to_string() },
        "logging": { "logs": { "default": { "level": "ERROR" } } },
    });
    let file = context.path("caddy.json");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new(program::path("caddy"));
    command.arg("run").arg("--config").arg(&file).env("HOME", context.dir()).env("XDG_DATA_HOME", context.dir());
    let server = Server::from(Process::spawn(command, &context.path("caddy.log"))?);
    until("Caddy answers", async || {
        let answer = send(admin, request(Method::GET, &admin.to_string(), "/config/", "")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    let mut all = config;
    all["apps"] = json!({
        "http": { "http_port": http.port(), "https_port": https.port(), "servers": { "all": {
            "listen": [https.to_string()],
            "routes": names.iter().map(|name| json!({
                "match": [{ "host": [name] }],
                "handle": [{ "handler": "reverse_proxy", "upstreams": [{ "dial": "127.0.0.1:1" }] }],
            })).collect::<Vec<_>>(),
        } } },
        "tls": { "automation": { "policies": [{ "issuers": [{
            "module": "acme",
            "ca": pebble.directory(),
            "trusted_roots_pem_files": [pebble.ca_file],
            "challenges": { "tls-alpn": { "disabled": true } },
        }] }] } },
    });
    let mut load = request(Method::POST, &admin.to_string(), "/load", all.to_string());
    load.headers_mut().insert("content-type", "application/json".parse()?);
    let pid = server.id()?;
    let (spent, began) = (cpu::spent(&[pid])?, Instant::now());
    let (loaded, times) = tokio::join!(send(admin, load), handshakes(&pebble, https, names, began));
    let loaded = loaded?;
    ensure!(loaded.status == 200, "{loaded:?}");
    let times = times.with_context(|| server.output())?;
    Ok(Round { times, cpu: (cpu::spent(&[pid])? - spent).as_secs_f64(), orders: pebble.orders() })
}

/// When each name had its first good handshake, in seconds after `began`, sorted.
async fn handshakes(pebble: &Pebble, address: SocketAddr, names: &[String], began: Instant) -> Result<Vec<f64>> {
    let https = Https::trusting(&pebble.root().await?)?;
    let mut trying = JoinSet::new();
    for name in names {
        let (name, https) = (name.clone(), https.clone());
        trying.spawn(async move {
            loop {
                match https.connect(address, &name, &["http/1.1"]).await {
                    Ok(_) => return Ok(began.elapsed().as_secs_f64()),
                    Err(error) => ensure!(began.elapsed() < PATIENCE, "{name}: {error:#}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let mut times = trying.join_all().await.into_iter().collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times)
}
