//! Asking another task for the secret.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::KinTask;
use super::channel::{Gift, Line, Question, Reply, client, material, server_name};
use super::proof::{End, Proofs};
use crate::error::StartError;

/// For all of it; the other asks its orchestrator meanwhile.
const TIMEOUT: Duration = Duration::from_secs(8);

/// What another task answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("it can't be reached: {0}")]
    Unreachable(io::Error),
    #[error("it did not answer in time")]
    Late,
    #[error("hands out none, perhaps because it was given one: give this node the same, as roo_secret ({0})")]
    NoHandshake(io::Error),
    #[error("it refused: {0}")]
    Refused(String),
    #[error("it did not prove that it is the task it should be")]
    Unproven,
    #[error("its answer can't be read: {0}")]
    Unreadable(io::Error),
}

/// Asks others.
pub(super) struct Asker {
    config: Arc<ClientConfig>,
    port: u16,
}

impl Asker {
    /// One that finds the others at this port.
    pub(super) fn new(port: u16) -> Result<Self, StartError> {
        Ok(Self { config: client()?, port })
    }

    /// Where a task of this address would be.
    pub(super) fn target(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port)
    }

    /// Proves this node's task to another one, has that one prove itself, and takes what it gives. Nothing of either token
    /// goes over the line. The future may be dropped.
    pub(super) async fn ask(&self, own: &KinTask, other: &KinTask) -> Result<Gift, AskError> {
        tokio::time::timeout(TIMEOUT, self.try_ask(own, other)).await.unwrap_or(Err(AskError::Late))
    }

    async fn try_ask(&self, own: &KinTask, other: &KinTask) -> Result<Gift, AskError> {
        let stream = connect(own.address, self.target(other.address)).await.map_err(AskError::Unreachable)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(server_name(), stream).await.map_err(AskError::NoHandshake)?;
        let material = material(stream.get_ref().1).map_err(AskError::Unreadable)?;
        let proofs = Proofs::new(own, other, material);
        let mut line = Line::new(stream);
        let question = Question { proof: proofs.of(End::Asking) };
        line.send(&question).await.map_err(AskError::Unreadable)?;
        match line.receive().await.map_err(AskError::Unreadable)? {
            Reply::Given { proof, gift } if proofs.holds(End::Asked, &proof) => Ok(gift),
            Reply::Given { .. } => Err(AskError::Unproven),
            Reply::Refused(reason) => Err(AskError::Refused(reason)),
        }
    }
}

/// From the address under which the other knows this node.
async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}
