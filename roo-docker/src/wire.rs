//! The way to the engine: one connection for each question, over whatever the engine listens at.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::tls::{Tls, TlsError};

/// Where the engine listens. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Wire {
    /// At a socket of this machine.
    Unix(Arc<Path>),
    /// At `host:port`, in the clear or by TLS.
    Tcp { authority: Arc<str>, tls: Option<(TlsConnector, ServerName<'static>)> },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("status {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("{0}")]
    Connection(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("its answer can't be read: {0}")]
    Answer(String),
}

impl WireError {
    /// As those have it who know of no other.
    pub(crate) fn into_io(self) -> std::io::Error {
        match self {
            Self::Connection(error) => error,
            other => std::io::Error::other(other),
        }
    }
}

impl Wire {
    pub(crate) fn unix(path: &str) -> Self {
        Self::Unix(PathBuf::from(path).into())
    }

    /// The authority of a URL; without a port it is Docker's own. Reads the files of `tls`.
    pub(crate) fn tcp(authority: &str, tls: Option<&Tls>) -> Result<Self, TlsError> {
        let authority = authority.trim_matches('/');
        let port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let own = if tls.is_some() { DOCKER_TLS_PORT } else { DOCKER_PORT };
        let host = port.map_or(authority, |(host, _)| host);
        let tls = tls.map(|tls| Ok((tls.connector()?, server_name(host)?))).transpose()?;
        let authority = if port.is_some() { authority.into() } else { format!("{authority}:{own}").into() };
        Ok(Self::Tcp { authority, tls })
    }

    /// Asks for a path. May be dropped at any time.
    pub(crate) async fn get(&self, path_and_query: &str) -> Result<Bytes, WireError> {
        let request = Request::get(path_and_query).body(Empty::<Bytes>::new());
        let response = self.send(request.map_err(|error| WireError::Answer(error.to_string()))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| WireError::Answer(error.to_string()))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(WireError::Refused { status: status.as_u16(), message: message(&body) })
    }

    /// Sends a request over a connection of its own, which ends with the response's body.
    pub(crate) async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, WireError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self {
            Self::Unix(path) => exchange(UnixStream::connect(path).await?, "docker", request).await,
            Self::Tcp { authority, tls } => {
                let stream = TcpStream::connect(&**authority).await?;
                match tls {
                    None => exchange(stream, authority, request).await,
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        exchange(stream, authority, request).await
                    }
                }
            }
        }
    }
}

async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    mut request: Request<B>,
) -> Result<Response<Incoming>, WireError>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let host = HeaderValue::from_str(host).map_err(|error| WireError::Answer(error.to_string()))?;
    request.headers_mut().insert(HOST, host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong with it is told to whoever waits for the response or reads its body.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name { host: host.to_owned() })
}

/// What the engine says of a refusal.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice(body).map(|Said { message }| message);
    said.unwrap_or_else(|_| String::from_utf8_lossy(body).chars().take(MESSAGE_CHARS_MAX).collect())
}

const DOCKER_PORT: u16 = 2375;
const DOCKER_TLS_PORT: u16 = 2376;
/// Ten thousand tasks take 30 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const MESSAGE_CHARS_MAX: usize = 300;
