//! Good clients: what they are told, and how long they wait.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::HOST;
use crate::support::api::request;

/// How many at a time.
pub const CLIENTS: usize = 4;

/// The pause of each between two requests.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients that ask until they are told to stop. Each keeps its connection for some requests.
pub struct Good {
    stop: CancellationToken,
    clients: JoinSet<Result<Vec<Duration>>>,
}

/// How long they waited.
pub struct Waits(Vec<Duration>);

impl Good {
    pub fn start(address: SocketAddr) -> Good {
        let (stop, mut clients) = (CancellationToken::new(), JoinSet::new());
        for _ in 0..CLIENTS {
            clients.spawn(client(address, stop.clone()));
        }
        Good { stop, clients }
    }

    /// # Errors
    /// If any request was not answered as it should be.
    pub async fn end(mut self) -> Result<Waits> {
        self.stop.cancel();
        let mut waits = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            waits.extend(ended??);
        }
        waits.sort();
        ensure!(!waits.is_empty(), "good clients did not ask");
        Ok(Waits(waits))
    }

    /// As [`Good::end`] after a time of nothing else.
    pub async fn for_a_while(address: SocketAddr, time: Duration) -> Result<Waits> {
        let good = Good::start(address);
        tokio::time::sleep(time).await;
        good.end().await
    }
}

impl Waits {
    pub fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

async fn client(address: SocketAddr, stop: CancellationToken) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    while !stop.is_cancelled() {
        let stream = TcpStream::connect(address).await.context("a good client is not let in")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        for _ in 0..100 {
            let began = Instant::now();
            let answer = sender.send_request(request(Method::GET, HOST, "/", "").map(Full::new)).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            waits.push(began.elapsed());
            ensure!(status == StatusCode::OK && body == "fine", "a good client was told {status} {body:?}");
            if stop.is_cancelled() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        connection.abort();
    }
    Ok(waits)
}
