//! The proxy half: processor time per request of Roo, nginx and HAProxy in front of the same service.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;

use crate::certificate::Certificate;
use crate::cpu;
use crate::load;
use crate::nginx::{self, Service};
use crate::options::Options;
use crate::series::Series;
use crate::server::Server;
use crate::support::api::{request, send};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::wait::until;
use crate::table::Table;
use crate::{haproxy, latency, program, roo};

/// The name that clients ask for. The load generators look it up, and every system has it.
pub const HOST: &str = "localhost";
/// The answer of the service, 100 bytes.
pub const BODY: &str =
    "A short answer of just one hundred bytes, such as the services behind a proxy often give to clients.";
/// The answer at [`LARGE_PATH`].
pub const LARGE_BYTES: usize = 1 << 20;
pub const LARGE_PATH: &str = "/large";
/// The core of the load generator and of the service. The proxies have core 0.
pub const LOAD_CORE: usize = 1;
pub const PROXY_CORE: usize = 0;

/// Whether the proxies write a line for each request to a file of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    Off,
    On,
}

/// A running proxy with a route for [`HOST`].
pub struct Front {
    pub name: &'static str,
    pub version: String,
    pub server: Server,
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// What a client must trust, in PEM.
    pub roots: String,
}

/// How clients come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Plain,
    Tls,
    H2,
    /// A connection for each request, none of them resumed.
    Handshake,
    /// Answers of [`LARGE_BYTES`].
    Large,
}

impl Case {
    const ALL: [Self; 5] = [Self::Plain, Self::Tls, Self::H2, Self::Handshake, Self::Large];

    /// A log costs the same for each request: where there are few, it does not show.
    fn all(logs: Logs) -> &'static [Self] {
        match logs {
            Logs::Off => &Self::ALL,
            Logs::On => &Self::ALL[..3],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain HTTP/1.1",
            Self::Tls => "HTTP/1.1 over TLS",
            Self::H2 => "HTTP/2 over TLS",
            Self::Handshake => "full TLS 1.3 handshakes, a request each",
            Self::Large => "1 MiB each, HTTP/1.1 over TLS",
        }
    }
}

/// The figures of one proxy in one case.
#[derive(Default)]
struct Figures {
    /// Milliseconds of processor time per 1,000 requests.
    cpu: Series,
    /// Requests a second.
    rate: Series,
}

/// Measures; gives a section in Markdown.
pub async fn run(options: &Options, logs: Logs) -> Result<String> {
    let context = Context::new();
    let service = Service::start(&context)?;
    let certificate = Certificate::make(&context, HOST)?;
    let fronts = [
        roo::start(&context, service.address, logs).await?,
        nginx::start(&context, service.address, &certificate, logs)?,
        haproxy::start(&context, service.address, &certificate, logs)?,
    ];
    cpu::pin(&[service.server.id()?], LOAD_CORE)?;
    for front in &fronts {
        cpu::pin(&[front.server.id()?], PROXY_CORE)?;
        until(&format!("{} answers", front.name), async || probe(front).await)
            .await
            .with_context(|| front.server.output())?;
    }
    let mut table = Table::new([
        "CPU ms per 1,000 requests",
        "Roo",
        "nginx",
        "HAProxy",
        "Roo / nginx",
        "Roo / HAProxy",
        "requests/s: Roo",
        "nginx",
        "HAProxy",
    ]);
    for case in Case::all(logs) {
        let [roo, nginx, haproxy] = measure(options, *case, &fronts).await?;
        let cpu = |figures: &Figures| format!("{:.1}", figures.cpu.median());
        let rate = |figures: &Figures| format!("{:.0}", figures.rate.median());
        table.row([
            case.name().to_owned(),
            cpu(&roo),
            cpu(&nginx),
            cpu(&haproxy),
            roo.cpu.over(&nginx.cpu).to_string(),
            roo.cpu.over(&haproxy.cpu).to_string(),
            rate(&roo),
            rate(&nginx),
            rate(&haproxy),
        ]);
    }
    if logs == Logs::On {
        ensure_lines(&context)?;
    }
    let latency = latency::run(options, &context, &fronts).await?;
    Ok(section(&fronts, &table, logs)? + &latency)
}

/// Checks that each proxy has written its log.
fn ensure_lines(context: &Context) -> Result<()> {
    for name in ["roo", "nginx", "haproxy"] {
        let bytes = std::fs::metadata(log_file(context, name)).map_or(0, |file| file.len());
        ensure!(bytes > 100_000, "{name} has written {bytes} bytes to its log");
    }
    Ok(())
}

/// Where a proxy writes its log.
pub fn log_file(context: &Context, name: &str) -> PathBuf {
    context.path(&format!("{name}.access"))
}

fn section(fronts: &[Front], table: &Table, logs: Logs) -> Result<String> {
    let title = if logs == Logs::On { "Proxy with an access log" } else { "Proxy" };
    let logging = match logs {
        Logs::Off => "write no access log",
        Logs::On => {
            "write an access log to a file (Roo as JSON, nginx combined with a buffer of 64 KiB, HAProxy httplog)"
        }
    };
    let mut text = format!("\n### {title}\n\n");
    let [wrk, h2load] = [("wrk", "-v"), ("h2load", "--version")]
        .map(|(name, flag)| format!("{name} {}", program::version(&program::path(name), flag)));
    let peers: Vec<String> = fronts[1..].iter().map(|front| format!("{} {}", front.name, front.version)).collect();
    writeln!(
        text,
        "Beside {}, loaded by {wrk} and {h2load}. Each proxy has one worker on core {PROXY_CORE}; load and service \
         (nginx, {} bytes) are on core {LOAD_CORE}. All keep connections on both sides, set Host, X-Real-IP, \
         X-Forwarded-For and X-Forwarded-Proto, and {logging}; TLS 1.3 with P-256. Load: HTTP/1.1 by {}, \
         HTTP/2 by {}. CPU is user and system time of the whole process tree, handshakes of a round's connections \
         included; lower is better. Requests/s are for information.\n",
        peers.join(" and "),
        BODY.len(),
        load::describe(Case::Tls),
        load::describe(Case::H2),
    )?;
    write!(text, "{table}")?;
    Ok(text)
}

/// Checks that a proxy gives the service's answer over http and https.
async fn probe(front: &Front) -> Result<()> {
    let plain = send(front.http, request(Method::GET, HOST, "/", "")).await?;
    let over_tls = Https::trusting(&front.roots)?.get(front.https, HOST, "/").await?;
    for answer in [plain, over_tls] {
        ensure!(answer.status == 200 && answer.body == BODY, "{answer:?}");
    }
    Ok(())
}

/// Loads the proxies in turn, round by round, after one short round that does not count.
async fn measure(options: &Options, case: Case, fronts: &[Front; 3]) -> Result<[Figures; 3]> {
    let mut all: [Figures; 3] = Default::default();
    for front in fronts {
        load::run(case, front, Duration::from_secs(1)).await?;
    }
    for round in 1..=options.rounds {
        for (front, figures) in fronts.iter().zip(&mut all) {
            let roots = [front.server.id()?];
            let start = cpu::spent(&roots)?;
            let answers = load::run(case, front, options.round()).await?;
            let spent = (cpu::spent(&roots)? - start).as_secs_f64() * 1e3 / (answers.count / 1e3);
            eprintln!(
                "{}, round {round}, {}: {spent:.1} ms per 1,000, {:.0}/s",
                case.name(),
                front.name,
                answers.per_second
            );
            figures.cpu.push(spent);
            figures.rate.push(answers.per_second);
        }
    }
    Ok(all)
}
