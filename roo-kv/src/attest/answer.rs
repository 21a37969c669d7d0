//! Answering a task that asks for the secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::channel::{Gift, Line, Question, Reply, material, server};
use super::proof::{End, Proofs};
use super::{Kin, Kinship};
use crate::error::StartError;
use crate::peer::StandingForm;

/// For the whole conversation.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long after one task another may be told that it runs.
const NEWS_MAX: Duration = Duration::from_secs(2);

/// How old the view of the tasks may be that a stranger is judged by, and how often strangers make it anew at most.
const VIEW_AGE_MAX: Duration = Duration::from_millis(500);

/// Where tasks of the same service are handed the secret.
pub(crate) struct Door {
    kinship: Kinship,
    tls: Arc<ServerConfig>,
    view: Mutex<Option<(Instant, Result<Kin, String>)>>,
}

impl Door {
    pub(super) fn new(kinship: Kinship) -> Result<Self, StartError> {
        Ok(Self { kinship, tls: server()?, view: Mutex::default() })
    }

    /// For whoever comes with [`super::ALPN`].
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls)
    }

    /// Talks to whoever connected. The error says why it was refused.
    pub(crate) async fn answer(&self, stream: TlsStream<TcpStream>) -> Result<(), String> {
        let talk = self.talk(stream);
        tokio::time::timeout(TIMEOUT, talk).await.unwrap_or_else(|_| Err("it did not ask in time".to_owned()))
    }

    async fn talk(&self, stream: TlsStream<TcpStream>) -> Result<(), String> {
        let (tcp, tls) = stream.get_ref();
        let text = |error: std::io::Error| error.to_string();
        let near = tcp.local_addr().map_err(text)?.ip().to_canonical();
        let far = tcp.peer_addr().map_err(text)?.ip().to_canonical();
        let material = material(tls).map_err(text)?;
        let mut line = Line::new(stream);
        let question: Question = line.receive().await.map_err(text)?;
        let reply = match self.proofs(near, far, material).await {
            Ok(proofs) if proofs.holds(End::Asking, &question.proof) => {
                Reply::Given { proof: proofs.of(End::Asked), gift: self.gift() }
            }
            Ok(_) => Reply::Refused(format!("{far} did not prove that it is the task with this address")),
            Err(reason) => Reply::Refused(reason),
        };
        line.send(&reply).await.map_err(text)?;
        match reply {
            Reply::Given { .. } => {
                tracing::info!(task = %far, "handed the secret to a task of this service");
                Ok(())
            }
            Reply::Refused(reason) => Err(reason),
        }
    }

    async fn proofs(&self, near: IpAddr, far: IpAddr, material: [u8; 32]) -> Result<Proofs, String> {
        let begin = Instant::now();
        loop {
            let kin = self.kin().await?;
            if let Some((own, other)) = kin.ends(near, far) {
                return Ok(Proofs::new(other, own, material));
            }
            // That a task runs is told from engine to engine, which takes its time.
            if begin.elapsed() > NEWS_MAX {
                return Err(format!("{far} is no running task of the service {}", kin.service));
            }
            tokio::time::sleep(VIEW_AGE_MAX).await;
        }
    }

    /// The tasks now, or a moment ago: strangers can't have the orchestrator asked more often than that.
    async fn kin(&self) -> Result<Kin, String> {
        let mut view = self.view.lock().await;
        if let Some((at, kin)) = &*view
            && at.elapsed() < VIEW_AGE_MAX
        {
            return kin.clone();
        }
        let kin = self.kinship.orchestrator.kin().await;
        *view = Some((Instant::now(), kin.clone()));
        kin
    }

    fn gift(&self) -> Gift {
        let secrets = self.kinship.keyring.secrets();
        Gift {
            secret: secrets.current().reveal().to_string(),
            secret_id: secrets.current().id(),
            node: self.kinship.node.id(),
            standing: StandingForm::from(&self.kinship.node.identity.standing()),
            settled: self.kinship.node.is_settled(),
        }
    }
}
