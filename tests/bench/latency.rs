//! How long requests take at a load that the peers bear: seven tenths of what nginx can do at most.
//!
//! At a given rate h2load looks every ten milliseconds what is due and asks for that one by one; all clients of one
//! process look at the same moment, and so measure how long the proxy takes for as many requests at once. Hence each
//! client is a process of its own, which looks when it happens to.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tokio::process::Command;

use crate::options::Options;
use crate::program;
use crate::proxy::{Front, HOST, LOAD_CORE};
use crate::series::Series;
use crate::support::context::Context;
use crate::table::Table;

const CLIENTS: u32 = 32;
/// The part of nginx's maximum that is asked for.
const LOAD: f64 = 0.7;

/// Measures proxies of which the second is nginx; gives a part of a section in Markdown.
pub async fn run(options: &Options, context: &Context, fronts: &[Front; 3]) -> Result<String> {
    let mut most = Series::default();
    for _ in 0..3 {
        let log = context.path("latencies");
        let times = load(&fronts[1], &[format!("-c{CLIENTS}")], options.round(), &log).await?;
        most.push(times.len() as f64 / seconds(options.round()) as f64);
    }
    let rate = (most.median() * LOAD / f64::from(CLIENTS)).max(1.0).round();
    let mut all: [[Series; 2]; 3] = Default::default();
    for _ in 0..options.rounds {
        for (front, [half, most]) in fronts.iter().zip(&mut all) {
            let mut times = paced(front, rate, options.round(), context).await?;
            times.sort_unstable();
            half.push(percentile(&times, 50));
            most.push(percentile(&times, 99));
        }
    }
    let [roo, nginx, haproxy] = &all;
    let mut table =
        Table::new(["milliseconds, HTTP/1.1 over TLS", "Roo", "nginx", "HAProxy", "Roo / nginx", "Roo / HAProxy"]);
    for (k, name) in ["p50", "p99"].into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.2}", roo[k].median()),
            format!("{:.2}", nginx[k].median()),
            format!("{:.2}", haproxy[k].median()),
            roo[k].over(&nginx[k]).to_string(),
            roo[k].over(&haproxy[k]).to_string(),
        ]);
    }
    let mut text = String::new();
    writeln!(
        text,
        "\nAt {:.0} requests/s, 0.7 of the most that nginx bears, from {CLIENTS} times h2load with a connection each:\n",
        rate * f64::from(CLIENTS)
    )?;
    write!(text, "{table}")?;
    Ok(text)
}

/// Asks `front` at a `rate` of requests a second from each client; how long each took, in microseconds.
async fn paced(front: &Front, rate: f64, duration: Duration, context: &Context) -> Result<Vec<u64>> {
    let arguments = ["-c1".to_owned(), format!("--rps={rate}")];
    let logs: Vec<_> = (0..CLIENTS).map(|client| context.path(&format!("latencies.{client}"))).collect();
    let clients = logs.iter().map(|log| load(front, &arguments, duration, log));
    Ok(try_join_all(clients).await?.concat())
}

/// Asks `front` by one h2load with these arguments; how long each request took, in microseconds.
async fn load(front: &Front, arguments: &[String], duration: Duration, log: &Path) -> Result<Vec<u64>> {
    if log.exists() {
        std::fs::remove_file(log)?;
    }
    let mut command = Command::new(program::path("taskset"));
    command.arg("-c").arg(LOAD_CORE.to_string()).arg(program::path("h2load")).arg("--h1").args(arguments);
    command.arg(format!("-D{}", seconds(duration))).arg(format!("--log-file={}", log.display()));
    command.arg(format!("--connect-to={}", front.https)).arg(format!("https://{HOST}:{}/", front.https.port()));
    let output = tokio::time::timeout(duration + Duration::from_secs(30), command.kill_on_drop(true).output());
    let output = output.await.context("the load generator does not end")?.context("the load generator")?;
    ensure!(output.status.success(), "h2load: {}", String::from_utf8_lossy(&output.stderr));
    let lines = std::fs::read_to_string(log)?;
    let times: Vec<u64> = lines.lines().filter_map(answered).collect();
    // The end cuts what is under way.
    let failed = lines.lines().count() - times.len();
    ensure!(!times.is_empty() && failed <= CLIENTS as usize, "{failed} requests to {} failed", front.name);
    Ok(times)
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

/// How long a request took that succeeded, of a line of h2load's log: when it began, its status, its time.
fn answered(line: &str) -> Option<u64> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [_, "200", time, ..] = fields.as_slice() else { return None };
    time.parse().ok()
}

/// In milliseconds, of sorted times.
fn percentile(times: &[u64], of_hundred: usize) -> f64 {
    let place = (times.len() * of_hundred).div_ceil(100).clamp(1, times.len().max(1));
    times.get(place - 1).map_or(f64::NAN, |time| *time as f64 / 1e3)
}
