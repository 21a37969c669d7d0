//! Handshakes by which a CA sees that a name is served here: tls-alpn-01 (RFC 8737).
//!
//! They carry no request and are answered for names with a pending challenge alone, whether or not the name has a
//! certificate. What answers them is shown to nobody else.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio_rustls::server::StartHandshake;

use crate::certificate::{CertificateError, unchecked_key};
use crate::metric::Handshake;
use crate::name::HostName;
use crate::origin::Scheme;
use crate::stream::Stream;
use crate::worker::Worker;

/// Name → what answers its challenge. Answered whichever listener for https is asked, as long as the snapshot holds it.
#[derive(Clone, Default)]
pub struct TlsAnswers(HashMap<HostName, Arc<CertifiedKey>>);

impl TlsAnswers {
    /// Builds a snapshot of all pending challenges; of two answers for a name the later one wins.
    pub fn new(answers: impl IntoIterator<Item = (HostName, TlsAnswer)>) -> TlsAnswers {
        TlsAnswers(answers.into_iter().map(|(name, answer)| (name, answer.0)).collect())
    }

    /// How many names have a pending challenge.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is shown for one name.
#[derive(Clone)]
pub struct TlsAnswer(Arc<CertifiedKey>);

impl TlsAnswer {
    /// From a certificate and its private key, both PEM. The certificate is not looked into: what makes it an answer is
    /// an extension that nobody but a CA understands, and marked as critical (RFC 8737 §3).
    ///
    /// # Errors
    ///
    /// Says which of the two is no PEM of its kind.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<TlsAnswer, CertificateError> {
        Ok(TlsAnswer(Arc::new(unchecked_key(chain_pem, key_pem)?)))
    }
}

impl fmt::Debug for TlsAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether a client wants nothing but to see the answer: it offers `acme-tls/1` and no other protocol (RFC 8737 §3).
pub(crate) fn is_asked_by(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(PROTOCOL) && offered.next().is_none())
}

/// Answers such a client, or ends its handshake, and closes the connection in either case.
pub(crate) async fn answer(worker: &Worker, start: StartHandshake<Stream>) -> Handshake {
    let within = worker.shared.config.timeouts.handshake;
    let Some(key) = pending(worker, &start).await else {
        refuse(start.io).await;
        return Handshake::NoCertificate;
    };
    let Ok(config) = config(key) else { return Handshake::Failed };
    let shown = async {
        let mut stream = start.into_stream(Arc::new(config)).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(within, shown).await {
        Ok(Ok(())) => Handshake::AcmeTls,
        Ok(Err(_)) => Handshake::Failed,
        Err(_) => Handshake::Timeout,
    }
}

/// What answers the challenge of the name asked for. The CA may be faster than the last step from the store to here.
async fn pending(worker: &Worker, start: &StartHandshake<Stream>) -> Option<Arc<CertifiedKey>> {
    let name = HostName::parse(start.client_hello().server_name()?).ok()?;
    let mut snapshots = worker.shared.tls_answers.subscribe();
    let known = snapshots.borrow().0.get(&name).cloned();
    if known.is_some() {
        return known;
    }
    worker.shared.routes.load().entry_of(&name, Scheme::Https)?;
    let appears = snapshots.wait_for(|snapshot| snapshot.0.contains_key(&name));
    let snapshot = tokio::time::timeout(APPEARS_WITHIN, appears).await.ok()?.ok()?;
    snapshot.0.get(&name).cloned()
}

fn config(key: Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Only(key)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Ends a handshake with the alert `no_application_protocol` (RFC 7301 §3.2), in the clear.
async fn refuse(mut stream: Stream) {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];
    // The client may be gone already, which is just as well.
    let _: io::Result<()> = async {
        stream.write_all(&ALERT).await?;
        stream.shutdown().await
    }
    .await;
}

/// The protocol's name (RFC 8737 §6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// How long an answer that is known to the cluster may take to be known to the workers.
const APPEARS_WITHIN: Duration = Duration::from_secs(2);
