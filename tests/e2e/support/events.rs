//! Following a watch of a node as server-sent events.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::api::{Api, request};
use super::wait::PATIENCE;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Value,
    pub id: Option<u64>,
}

impl Event {
    /// The key, or nothing.
    pub fn key(&self) -> &str {
        self.data["key"].as_str().unwrap_or_default()
    }
}

/// An open watch.
pub struct Events {
    body: Incoming,
    pending: Vec<u8>,
}

impl Events {
    /// Begins a watch, which must be let in.
    pub async fn open(api: &Api, path: &str, headers: &[(&'static str, &str)]) -> Result<Self> {
        let stream = TcpStream::connect(api.address).await?;
        let bearer = api.token.as_ref().map(|token| format!("Bearer {token}"));
        let authorization = bearer.iter().map(|bearer| ("authorization", bearer.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(authorization).collect();
        Self::over(stream, path, &headers).await
    }

    /// The same over a connection that somebody made.
    pub async fn over<S>(stream: S, path: &str, headers: &[(&'static str, &str)]) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = request(Method::GET, "api", path, Bytes::new());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let response: Response<Incoming> = sender.send_request(request.map(Full::new)).await?;
        if response.status() != 200 {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{path}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(Self { body: response.into_body(), pending: Vec::new() })
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<Event> {
        tokio::time::timeout(PATIENCE, self.read()).await.context("no event comes")?
    }

    /// The next event that is no progress mark.
    pub async fn next_change(&mut self) -> Result<Event> {
        loop {
            let event = self.next().await?;
            if event.name != "progress" {
                return Ok(event);
            }
        }
    }

    async fn read(&mut self) -> Result<Event> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let text: Vec<u8> = self.pending.drain(..end + 2).collect();
                return parse(std::str::from_utf8(&text)?);
            }
            let frame = self.body.frame().await.context("the watch has ended")??;
            if let Ok(data) = frame.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }
}

fn parse(text: &str) -> Result<Event> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Ok(Event {
        name: field("event:").context("an event without a name")?.to_owned(),
        data: serde_json::from_str(field("data:").context("an event without data")?)?,
        id: field("id:").map(str::parse).transpose()?,
    })
}
