//! Many routes, each with a certificate: how long a start takes, how long one more, and what a request costs then. Roo,
//! and with the smaller number HAProxy and Caddy as well.

mod authority;
mod caddy;
mod haproxy;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use tokio::time::Instant;

use crate::nginx::Service;
use crate::options::Options;
use crate::proxy::{BODY, Case, Front, HOST, LOAD_CORE, PROXY_CORE};
use crate::series::Series;
use crate::store::Dialect;
use crate::support::api::{request, send};
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::table::Table;
use crate::{client, cpu, load, machine, roo};

const COUNTS: [usize; 2] = [10_000, 100_000];
const QUICK_COUNTS: [usize; 2] = [100, 300];
/// Names added while it runs.
const MORE: usize = 20;
const CLIENTS: usize = 64;
/// A figure beyond this is a failure.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured of one program.
struct Figures {
    name: String,
    count: usize,
    /// From the process's start to the answer over TLS for the last name.
    start: Duration,
    memory: u64,
    /// One more route, live.
    route: Option<Series>,
    /// One more name, answered over TLS.
    name_more: Series,
}

/// The k-th name.
fn name(k: usize) -> String {
    format!("n{k}.bench.localhost")
}

/// Measures; gives a section in Markdown.
pub async fn run(options: &Options) -> Result<String> {
    let counts = if options.quick { QUICK_COUNTS } else { COUNTS };
    let context = Context::new();
    let service = Service::start(&context)?;
    cpu::pin(&[service.server.id()?], LOAD_CORE)?;
    let mut figures = Vec::new();
    let mut requests = Table::new(["CPU ms per 1,000 requests", "one route", "many", "many / one"]);
    for count in counts {
        let (measured, many) = measure_roo(&context, &service, count).await?;
        figures.push(measured);
        compare(options, &context, &service, (count, many), &mut requests).await?;
    }
    let certificates = authority::Certificates::make(&context, counts[0], MORE)?;
    figures.push(haproxy::measure(&context, &service, &certificates).await?);
    figures.push(caddy::measure(&context, &service, &certificates).await?);
    section(&figures, &requests)
}

fn section(figures: &[Figures], requests: &Table) -> Result<String> {
    let mut text = "\n### Many names\n\n".to_owned();
    writeln!(
        text,
        "As many routes as certificates, one for each name. The start is timed from the process's start until the last name \
         answers over TLS; Roo's certificates come from its store, where they are sealed. One more name is timed \
         from the request that adds it (HAProxy: from the start of the process that takes over) until it answers \
         over TLS; Roo issues the certificate in that time. {MORE} names each.\n"
    )?;
    let mut table = Table::new([
        "",
        "names",
        "start, s",
        "memory, MiB",
        "route live, ms: median",
        "highest",
        "name live, ms: median",
        "highest",
    ]);
    for figures in figures {
        let ms = |series: &Series| (format!("{:.1}", series.median()), format!("{:.1}", series.highest()));
        let route = figures.route.as_ref().map_or_else(|| ("–".to_owned(), "–".to_owned()), ms);
        let more = ms(&figures.name_more);
        table.row([
            figures.name.clone(),
            figures.count.to_string(),
            format!("{:.2}", figures.start.as_secs_f64()),
            format!("{:.0}", figures.memory as f64 / f64::from(1 << 20)),
            route.0,
            route.1,
            more.0,
            more.1,
        ]);
    }
    writeln!(text, "{table}")?;
    write!(text, "What a request to one of them costs, beside a Roo with one route:\n\n{requests}")?;
    Ok(text)
}

/// A Roo with many names that is started again, and has names added.
async fn measure_roo(context: &Context, service: &Service, count: usize) -> Result<(Figures, Node)> {
    let start = Start::new(context, &format!("names-{count}")).secret()?;
    let mut node = start.spawn().await?;
    node.ready().await?;
    let began = Instant::now();
    let url = format!("http://{}", service.address).into_bytes();
    let dialect = Dialect::Roo { token: node.api.token.clone().context("no token")? };
    let entries = (0..count).map(|k| (format!("com.roo.host:{}:https", name(k)), url.clone()));
    client::write_all(CLIENTS, &[node.api.address], &dialect, entries).await?;
    eprintln!("{count} routes are written after {:.1?}", began.elapsed());
    wait_for_all(&node, count).await?;
    eprintln!("{count} certificates are there after {:.1?}", began.elapsed());

    node.process.kill().await?;
    let began = Instant::now();
    node = start.spawn().await?;
    let https = Https::trusting(&roots(&node).await?)?;
    for k in [0, count / 2, count - 1] {
        answers(&https, node.https, &name(k), began).await?;
    }
    wait_for_all(&node, count).await?;
    let start = began.elapsed();
    let pid = node.process.id().context("the node has ended")?;
    let memory = machine::memory(pid)?;
    eprintln!("{count} names: Roo starts in {start:.2?}, {memory} B");

    let (mut route, mut name_more) = (Series::default(), Series::default());
    for k in 0..MORE {
        let plain = format!("plain{k}.bench.localhost");
        let began = Instant::now();
        node.route(&format!("{plain}:http"), &format!("http://{}", service.address)).await?;
        while send(node.http, request(Method::GET, &plain, "/", "")).await?.body != BODY {
            ensure!(began.elapsed() < PATIENCE, "{plain} is not served");
        }
        route.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        node.route(&format!("{}:https", name(count + k)), &format!("http://{}", service.address)).await?;
        answers(&https, node.https, &name(count + k), began).await?;
        name_more.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((Figures { name: "Roo".to_owned(), count, start, memory, route: Some(route), name_more }, node))
}

async fn roots(node: &Node) -> Result<String> {
    crate::support::wait::until("the internal CA can be read", async || {
        let answer = node.api.get("/roo/v1/ca").await?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(answer.text())
    })
    .await
}

/// Waits until the node has as many certificates in memory.
async fn wait_for_all(node: &Node, count: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = node.api.get("/roo/v1/status").await?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
        if status["certificates"].as_u64() >= Some(count as u64) && status["routes"].as_u64() >= Some(count as u64) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "there are {} of {count} certificates", status["certificates"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until `name` answers over TLS.
async fn answers(https: &Https, address: SocketAddr, name: &str, began: Instant) -> Result<()> {
    loop {
        match https.get(address, name, "/").await {
            Ok(answer) if answer.body == BODY => return Ok(()),
            Ok(answer) => ensure!(began.elapsed() < PATIENCE, "{name}: {answer:?}"),
            Err(error) => ensure!(began.elapsed() < PATIENCE, "{name}: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A request's cost among many routes and with one, round by round.
async fn compare(
    options: &Options,
    context: &Context,
    service: &Service,
    (count, many): (usize, Node),
    table: &mut Table,
) -> Result<()> {
    for scheme in ["http", "https"] {
        many.route(&format!("{HOST}:{scheme}"), &format!("http://{}", service.address)).await?;
    }
    let one = Start::new(context, &format!("one-of-{count}"));
    let fronts = [roo::start_by(one, service.address).await?, roo::front(many).await?];
    for front in &fronts {
        cpu::pin(&[front.server.id()?], PROXY_CORE)?;
        let https = Https::trusting(&front.roots)?;
        answers(&https, front.https, HOST, Instant::now()).await?;
    }
    for case in [Case::Plain, Case::Tls] {
        let [one, many] = cost(options, case, &fronts).await?;
        table.row([
            format!("{}, {count} names", case.name()),
            format!("{:.1}", one.median()),
            format!("{:.1}", many.median()),
            many.over(&one).to_string(),
        ]);
    }
    Ok(())
}

async fn cost(options: &Options, case: Case, fronts: &[Front; 2]) -> Result<[Series; 2]> {
    let mut all: [Series; 2] = Default::default();
    for front in fronts {
        load::run(case, front, Duration::from_secs(1)).await?;
    }
    for _ in 0..options.rounds {
        for (front, series) in fronts.iter().zip(&mut all) {
            let roots = [front.server.id()?];
            let start = cpu::spent(&roots)?;
            let answers = load::run(case, front, options.round()).await?;
            series.push((cpu::spent(&roots)? - start).as_secs_f64() * 1e3 / (answers.count / 1e3));
        }
    }
    Ok(all)
}
