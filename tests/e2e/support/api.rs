//! A plain HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends one request over a connection of its own.
pub async fn send(address: SocketAddr, request: Request<Bytes>) -> Result<Answer> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        exchange(stream, request).await
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await.context("no answer within 30 s")?
}

/// Sends one HTTP/1.1 request over `stream`.
pub async fn exchange<S>(stream: S, request: Request<Bytes>) -> Result<Answer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// A request with a `Host`.
pub fn request(method: Method, host: &str, path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::builder().method(method).uri(path).header("host", host).body(body.into()).expect("a valid request")
}

/// The API of one node.
#[derive(Debug, Clone)]
pub struct Api {
    pub address: SocketAddr,
    pub token: Option<String>,
}

impl Api {
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.call_with(method, path, &[], body).await
    }

    /// As [`call`](Self::call), with headers of its own.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let mut request = request(method, "api", path, body);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        send(self.address, request).await
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, "").await
    }

    /// Writes a key, or fails with what the node said.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<()> {
        let answer = self.call(Method::PUT, &format!("/roo/v1/kv/{key}"), value).await?;
        ensure!(answer.status == 200, "PUT {key}: {} {}", answer.status, answer.text());
        Ok(())
    }

    /// The value of a key, `None` for 404.
    pub async fn value(&self, key: &str) -> Result<Option<String>> {
        self.value_at(key, "linearizable").await
    }

    /// The value of a key at a read level.
    pub async fn value_at(&self, key: &str, level: &str) -> Result<Option<String>> {
        let answer = self.get(&format!("/roo/v1/kv/{key}?level={level}")).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.text())),
            StatusCode::NOT_FOUND => Ok(None),
            status => anyhow::bail!("GET {key}: {status} {}", answer.text()),
        }
    }

    pub async fn status(&self) -> Result<Value> {
        self.get("/roo/v1/status").await?.json()
    }
}
