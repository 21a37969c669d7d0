//! Questions to the engine whose answers bollard's models do not hold: where tasks are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// Where the engine listens. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Wire {
    /// At a socket of this machine.
    Unix(Arc<Path>),
    /// In the clear at `host:port`.
    Tcp(Arc<str>),
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

impl Wire {
    pub(crate) fn unix(path: &str) -> Self {
        Self::Unix(PathBuf::from(path).into())
    }

    /// The authority of a URL; without a port it is Docker's own.
    pub(crate) fn tcp(authority: &str) -> Self {
        let authority = authority.trim_matches('/');
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Self::Tcp(if has_port { authority.into() } else { format!("{authority}:{DOCKER_PORT}").into() })
    }

    /// Asks once, over a connection of its own. May be dropped at any time.
    pub(crate) async fn get(&self, path_and_query: &str) -> Result<Bytes, WireError> {
        match self {
            Self::Unix(path) => ask(UnixStream::connect(path).await?, "docker", path_and_query).await,
            Self::Tcp(authority) => ask(TcpStream::connect(&**authority).await?, authority, path_and_query).await,
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path_and_query: &str,
) -> Result<Bytes, WireError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path_and_query).header(HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| WireError::Answer(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| WireError::Answer(error.to_string()))?.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let (status, body) = tokio::select! {
        biased;
        answer = answer => answer,
        // The answer may be complete when the connection ends; if it is not, it says so itself.
        ended = &mut connection => match ended {
            Err(error) => Err(WireError::Http(error)),
            Ok(()) => Err(WireError::Answer("the engine hung up".to_owned())),
        },
    }?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(WireError::Refused { status: status.as_u16(), message: message(&body) })
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
/// Ten thousand tasks take 30 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const MESSAGE_CHARS_MAX: usize = 300;
