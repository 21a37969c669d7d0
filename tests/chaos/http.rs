//! A connection to the API of a node that tells what was surely not sent from what may have been.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::support::api::{Answer, Api};

/// How a request ended.
pub enum Reply {
    /// It was not sent.
    Unsent,
    /// It was or may have been sent.
    Lost,
    Answered(Answer),
}

/// At most one connection, made when needed.
#[derive(Default)]
pub struct Connection {
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Sends one request. If the future is dropped it was [`Reply::Lost`], and the connection must be [`reset`](Self::reset).
    pub async fn send(&mut self, api: &Api, method: Method, path: &str, body: Bytes) -> Result<Reply> {
        let token = api.token.as_deref().unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "api")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(body))?;
        let reply = self.exchange(api.address, request).await;
        if !matches!(reply, Reply::Answered(_)) {
            self.reset();
        }
        Ok(reply)
    }

    /// Closes the connection; the next request makes another.
    pub fn reset(&mut self) {
        self.sender = None;
    }

    async fn exchange(&mut self, address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_closed() => sender,
            slot => {
                let Ok(sender) = connect(address).await else { return Reply::Unsent };
                slot.insert(sender)
            }
        };
        if sender.ready().await.is_err() {
            return Reply::Unsent;
        }
        let Ok(response) = sender.send_request(request).await else { return Reply::Lost };
        let (head, body) = response.into_parts();
        match body.collect().await {
            Ok(body) => Reply::Answered(Answer { status: head.status, headers: head.headers, body: body.to_bytes() }),
            Err(_) => Reply::Lost,
        }
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
