//! The demo service: answers every request with what it was asked.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::Failure;

/// Connections served at once.
const CONNECTIONS_MAX: usize = 1024;

/// A bound demo service.
pub(super) struct Demo {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Demo {
    /// Binds `address`; port 0 picks one.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let fault = |error| Failure::Failed(format!("the demo service can't listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address })
    }

    /// Serves until dropped.
    pub(super) async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            connections.spawn(async move {
                let serve = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                // A client that hangs up is none of our business.
                let _ = serve.await;
            });
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut text = format!("Roo demo: {} {}\n\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    Ok(Response::new(Full::from(text)))
}
