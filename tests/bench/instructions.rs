//! What a request costs Roo in instructions of its own, counted by callgrind. Unlike time it is the same on every
//! machine, so that a change for the worse shows, and ends the benchmark with an error.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::nginx::Service;
use crate::program;
use crate::proxy::{Front, HOST};
use crate::roo;
use crate::support::cluster::Start;
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::wait::until;
use crate::table::Table;

/// Requests of the shorter of two counts; their difference is free of what there is once.
const REQUESTS: usize = 2_000;

/// One way of a request through the proxy.
struct Way {
    name: &'static str,
    scheme: &'static str,
    /// What h2load is told.
    load: &'static [&'static str],
    /// More instructions than this are an error.
    limit: f64,
}

const WAYS: [Way; 3] = [
    Way { name: "plain HTTP/1.1", scheme: "http", load: &["--h1", "-c8"], limit: 14_600.0 },
    Way { name: "HTTP/1.1 over TLS", scheme: "https", load: &["--h1", "-c8"], limit: 22_600.0 },
    Way { name: "HTTP/2 over TLS", scheme: "https", load: &["-c8", "-m4"], limit: 50_500.0 },
];

/// Counts; gives a section in Markdown.
///
/// # Errors
///
/// If a way costs more than its limit, or callgrind can't be had.
pub async fn run() -> Result<String> {
    let context = Context::new();
    let service = Service::start(&context)?;
    let counts = context.path("counts");
    let tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no"].map(str::to_owned);
    let start = Start::new(&context, "roo")
        .under(tool.into_iter().chain([format!("--callgrind-out-file={}", counts.display())]));
    let front = roo::start_by(start, service.address).await?;
    let https = Https::trusting(&front.roots)?;
    until("Roo serves", async || {
        ensure!(https.get(front.https, HOST, "/").await?.status == 200, "not yet");
        Ok(())
    })
    .await?;
    let counter = Counter { pid: front.server.id()?.to_string(), file: counts };
    let mut table = Table::new(["user instructions per request", "Roo", "limit"]);
    for way in &WAYS {
        let count = counter.per_request(way, &front).await?;
        eprintln!("{}: {count:.0} instructions", way.name);
        ensure!(count <= way.limit, "{} costs {count:.0} instructions, {:.0} are its limit", way.name, way.limit);
        table.row([way.name.to_owned(), format!("{count:.0}"), format!("{:.0}", way.limit)]);
    }
    Ok(format!(
        "\n### Instructions of a request\n\nIn user space, by callgrind, of the whole process, everything on that is on \
         by default; one proxy thread, the service as above.\n\n{table}"
    ))
}

/// A process under callgrind.
struct Counter {
    pid: String,
    /// What it writes its counts to, with a number behind it.
    file: PathBuf,
}

impl Counter {
    async fn per_request(&self, way: &Way, front: &Front) -> Result<f64> {
        load(way, front, REQUESTS / 4).await?;
        self.control(&["-i", "on"]).await?;
        let fewer = self.count(way, front, REQUESTS).await?;
        let more = self.count(way, front, 2 * REQUESTS).await?;
        self.control(&["-i", "off"]).await?;
        Ok((more - fewer) / REQUESTS as f64)
    }

    /// Instructions while so many requests are answered.
    async fn count(&self, way: &Way, front: &Front, requests: usize) -> Result<f64> {
        let before = dumps(&self.file)?;
        self.control(&["-z"]).await?;
        load(way, front, requests).await?;
        self.control(&["-d"]).await?;
        let new =
            dumps(&self.file)?.into_iter().find(|dump| !before.contains(dump)).context("callgrind wrote no counts")?;
        let text = std::fs::read_to_string(new)?;
        let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: ")).context("there is no total")?;
        total.trim().parse().context("the total is no number")
    }

    async fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program::path("callgrind_control"));
        let output = command.args(arguments).arg(&self.pid).output().await?;
        ensure!(output.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// The files that callgrind has written.
fn dumps(file: &Path) -> Result<Vec<PathBuf>> {
    let directory = file.parent().context("the file is in a directory")?;
    let name = format!("{}.", file.file_name().context("the file has a name")?.to_string_lossy());
    let entries = std::fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(&name)))
        .collect())
}

async fn load(way: &Way, front: &Front, requests: usize) -> Result<()> {
    let port = if way.scheme == "http" { front.http.port() } else { front.https.port() };
    let mut command = Command::new(program::path("h2load"));
    command.args(way.load).arg(format!("-n{requests}")).arg(format!("{}://{HOST}:{port}/", way.scheme));
    let output = command.kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains(&format!("{requests} succeeded")), "not every request succeeded:\n{text}");
    Ok(())
}
