//! Clients of a store: each sends one request after the other over its own connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::store::Dialect;

/// Different keys that a client writes, and that all clients read.
const KEYS: usize = 1000;
/// How long answers may take beyond the end of a round.
const PATIENCE: Duration = Duration::from_secs(30);

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Write,
    Read,
    /// Whatever the node has.
    ReadStale,
}

/// What all clients of a round did together.
#[derive(Debug, Default)]
pub struct Done {
    /// Durations of all operations, in no order.
    times: Vec<Duration>,
    elapsed: Duration,
}

impl Done {
    pub fn count(&self) -> f64 {
        self.times.len() as f64
    }

    pub fn per_second(&self) -> f64 {
        self.count() / self.elapsed.as_secs_f64()
    }

    /// The median duration.
    pub fn p50(mut self) -> Duration {
        let half = self.times.len() / 2;
        if self.times.is_empty() { Duration::ZERO } else { *self.times.select_nth_unstable(half).1 }
    }
}

/// A connection to one member of a store.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    dialect: Dialect,
}

impl Client {
    async fn connect(address: SocketAddr, dialect: Dialect) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, dialect })
    }

    async fn send(&mut self, request: Request<Bytes>) -> Result<Bytes> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request.map(Full::new)).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    async fn write(&mut self, key: &str, value: &[u8]) -> Result<()> {
        self.send(self.dialect.write(key, value)?).await.map(drop)
    }

    async fn read(&mut self, key: &str, stale: bool, expected: &[u8]) -> Result<()> {
        let answer = self.send(self.dialect.read(key, stale)?).await?;
        ensure!(self.dialect.holds(&answer, expected), "{key} has another value: {answer:?}");
        Ok(())
    }
}

/// The value of every key, 100 bytes.
pub fn value() -> Vec<u8> {
    b"0123456789".repeat(10)
}

/// Writes the keys that are read later.
pub async fn prepare(address: SocketAddr, dialect: &Dialect) -> Result<()> {
    let mut client = Client::connect(address, dialect.clone()).await?;
    for k in 0..KEYS {
        client.write(&shared_key(k), &value()).await?;
    }
    Ok(())
}

fn shared_key(k: usize) -> String {
    format!("bench/shared/{}", k % KEYS)
}

/// Lets `count` clients do `action` for `duration`, the k-th at `addresses[k % len]`.
pub async fn run(
    action: Action,
    count: usize,
    addresses: &[SocketAddr],
    dialect: &Dialect,
    duration: Duration,
) -> Result<Done> {
    let mut clients = Vec::new();
    for address in addresses.iter().cycle().take(count) {
        clients.push(Client::connect(*address, dialect.clone()).await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (k, client) in clients.into_iter().enumerate() {
        tasks.spawn(repeat(client, action, k, start + duration));
    }
    let mut done = Done::default();
    let all = async {
        while let Some(times) = tasks.join_next().await {
            done.times.extend(times??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(duration + PATIENCE, all).await.context("answers do not come")??;
    done.elapsed = start.elapsed();
    Ok(done)
}

/// Writes `keys` different keys with values of the usual size, by `count` clients.
pub async fn fill(count: usize, addresses: &[SocketAddr], dialect: &Dialect, keys: usize) -> Result<()> {
    write_all(count, addresses, dialect, (0..keys).map(|k| (format!("fill/{k}"), value()))).await
}

/// Writes entries by `count` clients, the k-th at `addresses[k % len]`.
pub async fn write_all(
    count: usize,
    addresses: &[SocketAddr],
    dialect: &Dialect,
    entries: impl IntoIterator<Item = (String, Vec<u8>)>,
) -> Result<()> {
    let entries = Arc::new(entries.into_iter().collect::<Vec<_>>());
    let mut tasks = JoinSet::new();
    for (k, address) in addresses.iter().cycle().take(count).enumerate() {
        let mut client = Client::connect(*address, dialect.clone()).await?;
        let entries = entries.clone();
        tasks.spawn(async move {
            for (key, value) in entries.iter().skip(k).step_by(count) {
                client.write(key, value).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Reads the key `fill/<key>`, linearizably.
pub async fn check(address: SocketAddr, dialect: &Dialect, key: usize) -> Result<()> {
    let mut client = Client::connect(address, dialect.clone()).await?;
    client.read(&format!("fill/{key}"), false, &value()).await
}

async fn repeat(mut client: Client, action: Action, number: usize, deadline: Instant) -> Result<Vec<Duration>> {
    let value = value();
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        if start >= deadline {
            return Ok(times);
        }
        match action {
            Action::Write => client.write(&format!("bench/{number}/{}", times.len() % KEYS), &value).await?,
            Action::Read | Action::ReadStale => {
                let stale = action == Action::ReadStale;
                client.read(&shared_key(number + times.len()), stale, &value).await?;
            }
        }
        times.push(start.elapsed());
    }
}
