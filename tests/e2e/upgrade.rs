//! One process taking over from another: nobody is refused, nothing is lost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::api::{request, send};
use crate::support::cluster::{Node, Start};
use crate::support::context::{Context, roo_bin};
use crate::support::https::Https;
use crate::support::ports::free_address;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Result, ensure};

/// Ends a node and every process that took over from it: they are one process group.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0);
        let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    }
}

/// A node whose program, as it knows it, is a link that can be put elsewhere.
struct Upgradable {
    node: Node,
    program: PathBuf,
    group: Group,
}

impl Upgradable {
    async fn start(context: &Context, supervisor: Option<&Path>) -> Result<Self> {
        let program = context.path("program");
        std::os::unix::fs::symlink(roo_bin(), &program)?;
        let script = format!("exec -a {} \"$@\"", program.display());
        let under = ["setsid", "bash", "-c", &script, "bash"].map(str::to_owned);
        let mut start = Start::new(context, "node").secret()?.under(under);
        if let Some(supervisor) = supervisor {
            start = start.environment("NOTIFY_SOCKET", supervisor);
        }
        let node = start.spawn().await?;
        let group = Group(node.process.id().context("it runs")?);
        node.ready().await?;
        Ok(Self { node, program, group })
    }

    /// Puts a script in the place of the program.
    fn replace(&self, script: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let new = self.program.with_extension("new");
        std::fs::write(&new, format!("#!/bin/bash\n{script}\n"))?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        Ok(std::fs::rename(new, &self.program)?)
    }

    async fn roo(&self, verb: &str) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(roo_bin());
        command.arg(verb).env_clear().env("ROO_ADDR", self.node.api.address.to_string());
        command.env("ROO_TOKEN", self.node.api.token.as_deref().unwrap_or_default());
        let output = command.output().await?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code(), text))
    }

    async fn process(&self) -> Result<u64> {
        self.node.api.status().await?["process"].as_u64().context("a process")
    }

    /// Waits until the process that the test has started has ended well, and another one is ready.
    async fn replaced(&mut self) -> Result<()> {
        let status = self.node.process.wait().await?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.node.process.output());
        self.node.ready().await?;
        ensure!(self.process().await? != u64::from(self.group.0));
        Ok(())
    }
}

/// Clients that never rest, each of its kind, and how many answers each has had.
struct Load {
    stop: Arc<AtomicBool>,
    served: Vec<Arc<AtomicUsize>>,
    clients: JoinSet<Result<()>>,
}

/// How a client asks.
#[derive(Clone)]
enum Kind {
    /// A new connection each time.
    Plain(SocketAddr),
    /// Likewise, over TLS.
    Secure(SocketAddr, Https),
    /// One connection for as long as it is kept open.
    Kept(SocketAddr),
}

impl Load {
    fn start(node: &Node, https: &Https) -> Self {
        let mut load = Self { stop: Arc::default(), served: Vec::new(), clients: JoinSet::new() };
        for kind in [Kind::Plain(node.http), Kind::Secure(node.https, https.clone()), Kind::Kept(node.http)] {
            let (stop, served) = (load.stop.clone(), Arc::new(AtomicUsize::new(0)));
            load.served.push(served.clone());
            load.clients.spawn(async move {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let text = kind.ask(&mut kept).await?;
                    ensure!(text == "here", "{text}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        load
    }

    /// Waits until each client has had some more answers.
    async fn goes_on(&mut self) -> Result<()> {
        let begun: Vec<_> = self.served.iter().map(|served| served.load(Ordering::Relaxed)).collect();
        until("every client has had ten more answers", async || {
            if let Some(ended) = self.clients.try_join_next() {
                // What it failed by is told at the end.
                return ended?;
            }
            let now = self.served.iter().map(|served| served.load(Ordering::Relaxed));
            ensure!(now.zip(&begun).all(|(now, begun)| now >= begun + 10), "not yet");
            Ok(())
        })
        .await
    }

    /// Ends it.
    ///
    /// # Errors
    /// If a single request has failed.
    async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(())
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;

impl Kind {
    async fn ask(&self, kept: &mut Option<Sender>) -> Result<String> {
        let answer = match self {
            Self::Plain(address) => send(*address, request(Method::GET, "plain.localhost", "/", "")).await?,
            Self::Secure(address, https) => https.get(*address, "secure.localhost", "/").await?,
            Self::Kept(address) => return ask_again(*address, kept).await,
        };
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.text())
    }
}

/// Asks over the connection that is there. If that was closed before an answer had begun, over a new one, as every client
/// must that keeps connections (RFC 9112 §9.3.1).
async fn ask_again(address: SocketAddr, kept: &mut Option<Sender>) -> Result<String> {
    let asked = || Request::get("/").header("host", "plain.localhost").body(Full::new(Bytes::new()));
    if let Some(sender) = kept
        && sender.ready().await.is_ok()
    {
        match sender.send_request(asked()?).await {
            Ok(answer) => return read(answer).await,
            Err(error) if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {}
            // A reset by the other end, which had closed already.
            Err(error) if error.to_string().contains("connection error") => {}
            Err(error) => bail!("on a kept connection: {error:?}"),
        }
    }
    let stream = TcpStream::connect(address).await.context("a new connection")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let answer = sender.send_request(asked()?).await.context("on a new connection")?;
    *kept = Some(sender);
    read(answer).await
}

async fn read(answer: http::Response<hyper::body::Incoming>) -> Result<String> {
    ensure!(answer.status() == 200, "{answer:?}");
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

/// A node with routes for the load, one of them on a port of its own.
async fn under_load(context: &Context, upstream: &Upstream, port: u16) -> Result<(Upgradable, Load)> {
    let running = Upgradable::start(context, None).await?;
    let node = &running.node;
    for origin in ["plain.localhost:http", "secure.localhost:https", &format!("plain.localhost:{port}:http")] {
        node.route(origin, &upstream.url()).await?;
    }
    let https = node.https_client().await?;
    until("all is served", async || {
        https.get(node.https, "secure.localhost", "/").await?;
        let address = SocketAddr::new(node.http.ip(), port);
        let answer = send(address, request(Method::GET, &format!("plain.localhost:{port}"), "/", "")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    let mut load = Load::start(node, &https);
    load.goes_on().await?;
    Ok((running, load))
}

#[tokio::test]
async fn an_upgrade_refuses_nobody_and_loses_nothing() -> Result<()> {
    let context = Context::new();
    let (upstream, port) = (Upstream::saying("here").await?, free_address()?.port());
    let (mut running, mut load) = under_load(&context, &upstream, port).await?;
    let (code, said) = running.roo("upgrade").await?;
    ensure!(code == Some(0) && said.contains(&format!("process {} ends", running.group.0)), "{said}");
    running.replaced().await?;
    load.goes_on().await?;
    // The port that a route has opened came along: it was never closed.
    let address = SocketAddr::new(running.node.http.ip(), port);
    let answer = send(address, request(Method::GET, &format!("plain.localhost:{port}"), "/", "")).await?;
    ensure!(answer.status == 200, "{answer:?}");
    // The store came along too, and is written to.
    running.node.route("later.localhost:http", &upstream.url()).await?;
    until("the new route is served", async || {
        let answer = send(running.node.http, request(Method::GET, "later.localhost", "/", "")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    load.end().await
}

#[tokio::test]
async fn sigusr2_asks_for_an_upgrade() -> Result<()> {
    let context = Context::new();
    let told = context.path("notify");
    let supervisor = tokio::net::UnixDatagram::bind(&told)?;
    let mut running = Upgradable::start(&context, Some(&told)).await?;
    let first = running.group.0;
    running.node.process.signal("USR2").await?;
    running.replaced().await?;
    // The supervisor hears of each that listens, and of the one that goes on.
    let mut heard = Vec::new();
    while !heard.iter().any(|line: &String| line.starts_with("MAINPID=")) {
        let mut bytes = [0; 256];
        let length = tokio::time::timeout(PATIENCE, supervisor.recv(&mut bytes)).await??;
        heard.push(String::from_utf8_lossy(&bytes[..length]).trim().to_owned());
    }
    let next = running.process().await?;
    ensure!(heard.contains(&format!("MAINPID={next}")) && heard.contains(&"READY=1".to_owned()), "{heard:?}");
    ensure!(next != u64::from(first));
    Ok(())
}

#[tokio::test]
async fn a_program_that_does_not_start_changes_nothing() -> Result<()> {
    let context = Context::new();
    let (upstream, port) = (Upstream::saying("here").await?, free_address()?.port());
    let (mut running, mut load) = under_load(&context, &upstream, port).await?;
    let missing = running.program.with_extension("gone");
    std::fs::rename(&running.program, &missing)?;
    for script in
        [None, Some("exit 1"), Some("echo nonsense >&0; exec sleep 1000"), Some("exec \"$ROO\" run --workers none")]
    {
        if let Some(script) = script {
            running.replace(&script.replace("$ROO", &roo_bin().display().to_string()))?;
        }
        let (code, said) = running.roo("upgrade").await?;
        ensure!(code == Some(1) && said.starts_with("roo: "), "{script:?}: {said}");
        ensure!(running.process().await? == u64::from(running.group.0), "{script:?}: {said}");
    }
    load.goes_on().await?;
    ensure!(running.node.process.is_running());
    running.node.ready().await?;
    load.end().await
}

#[tokio::test]
async fn a_program_that_fails_with_the_store_is_replaced_by_the_one_before() -> Result<()> {
    let context = Context::new();
    let (upstream, port) = (Upstream::saying("here").await?, free_address()?.port());
    let (mut running, mut load) = under_load(&context, &upstream, port).await?;
    // It has settings and sockets, and then finds a file where its data should be.
    let blocked = context.path("blocked");
    std::fs::write(&blocked, "")?;
    running.replace(&format!(
        "all=(); while [ $# -gt 0 ]; do all+=(\"$1\"); if [ \"$1\" = --data-dir ]; then all+=({:?}); shift; fi; shift; done\n\
         exec {:?} \"${{all[@]}}\"",
        blocked.display(),
        roo_bin().display()
    ))?;
    let (code, said) = running.roo("upgrade").await?;
    ensure!(code == Some(0), "{said}\n{}", running.node.process.output());
    running.replaced().await?;
    ensure!(running.node.process.output().contains("the upgrade failed"), "{}", running.node.process.output());
    load.goes_on().await?;
    load.end().await
}

#[tokio::test]
async fn a_supervisor_may_hold_the_sockets() -> Result<()> {
    let context = Context::new();
    // systemd's part: bound here, given as the first descriptor after those that every process has.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; exec \"$@\"";
    let log = context.path("node.log");
    let spawn = |listener: std::net::TcpListener| -> Result<tokio::process::Child> {
        let output = std::fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(roo_bin()).arg("run");
        // Whatever this setting says, the socket takes its place.
        command.args([
            "--http",
            "127.0.0.1:1",
            "--https",
            "127.0.0.1:0",
            "--api",
            "127.0.0.1:0",
            "--raft",
            "127.0.0.1:0",
        ]);
        command.args(["--acme-directory", "internal", "--workers", "2", "--data-dir"]).arg(context.path("node"));
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
        command.stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        Ok(command.spawn()?)
    };
    let answers = async |what: &str| {
        until(what, async || {
            let answer = send(address, request(Method::GET, "nobody.localhost", "/", "")).await;
            let answer = answer.with_context(|| read_log(&log))?;
            ensure!(answer.status == 404, "{answer:?}");
            Ok(())
        })
        .await
    };
    let mut node = spawn(listener.try_clone()?)?;
    answers("the node serves on the socket").await?;
    // While nobody runs, whoever connects waits.
    let id = node.id().context("it runs")?;
    Command::new("kill").arg(id.to_string()).status().await?;
    ensure!(tokio::time::timeout(PATIENCE, node.wait()).await??.success());
    let waiting = tokio::spawn(send(address, request(Method::GET, "nobody.localhost", "/", "")));
    let mut node = spawn(listener.try_clone()?)?;
    ensure!(waiting.await??.status == 404);
    node.kill().await?;
    Ok(())
}

fn read_log(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
