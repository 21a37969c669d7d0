//! TLS towards clients: the name decides, before anything costs.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use crate::acme_tls;
use crate::certificate::{Certificates, Served};
use crate::connection::apart;
use crate::event::Event;
use crate::metric::Handshake;
use crate::name::{self, HostName};
use crate::origin::Scheme;
use crate::stream::Stream;
use crate::table::Entry;
use crate::worker::Worker;

/// A connection whose handshake is done.
pub(crate) struct Accepted {
    /// Boxed: it is large, and moves on.
    pub(crate) stream: Box<TlsStream<Stream>>,
    pub(crate) name: HostName,
    pub(crate) served: Arc<Served>,
    pub(crate) is_http2: bool,
}

/// The configurations of handshakes; in all of them the certificate is looked up by name in the snapshot.
pub(crate) struct Configs {
    /// For most clients: AES-128 first, since SHA-256 makes its handshake a third cheaper than SHA-384 that of AES-256.
    ours: Arc<ServerConfig>,
    /// For clients that like ChaCha20 best, having no instructions for AES: what they like.
    theirs: Arc<ServerConfig>,
}

impl Configs {
    pub(crate) fn new(certificates: Arc<ArcSwap<Certificates>>) -> Result<Configs, rustls::Error> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(FromSnapshot(certificates)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption by tickets alone: nothing to store per client. rustls binds each to its server name.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        let theirs = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Configs { ours: Arc::new(config), theirs })
    }

    fn of(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        // Clients of some browsers put a made-up suite first (RFC 8701).
        let likes_best = hello.cipher_suites().iter().find(|suite| !matches!(suite, CipherSuite::Unknown(_)));
        if likes_best.is_some_and(|suite| is_chacha(*suite)) { self.theirs.clone() } else { self.ours.clone() }
    }
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[derive(Debug)]
struct FromSnapshot(Arc<ArcSwap<Certificates>>);

impl ResolvesServerCert for FromSnapshot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = name::normal(hello.server_name()?).ok()?;
        self.0.load().find_normal(&name).map(|served| served.key.clone())
    }
}

/// Takes a connection through its handshake.
///
/// # Errors
///
/// How it ended otherwise; the client has been told by an alert where it can be.
pub(crate) async fn accept(worker: &Rc<Worker>, stream: Stream) -> Result<Accepted, Handshake> {
    let within = worker.shared.config.timeouts.handshake;
    let start = tokio::time::timeout(within, LazyConfigAcceptor::new(Acceptor::default(), stream))
        .await
        .map_err(|_| Handshake::Timeout)?
        .map_err(|_| Handshake::Failed)?;
    if acme_tls::is_asked_by(&start.client_hello()) {
        return Err(apart(|| acme_tls::answer(worker, start)).await);
    }
    let Some((name, entry)) = routed_name(worker, &start) else {
        refuse(start.io).await;
        return Err(Handshake::UnknownName);
    };
    let Some(served) = certificate(worker, &name, &entry).await else {
        refuse(start.io).await;
        return Err(Handshake::NoCertificate);
    };
    let config = worker.tls.of(&start.client_hello());
    let stream = tokio::time::timeout(within, start.into_stream(config))
        .await
        .map_err(|_| Handshake::Timeout)?
        .map_err(|_| Handshake::Failed)?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted { stream: Box::new(stream), name, served, is_http2 })
}

/// The name asked for and its route, if it has one over TLS.
fn routed_name(worker: &Worker, start: &StartHandshake<Stream>) -> Option<(HostName, Arc<Entry>)> {
    let hello = start.client_hello();
    let name = HostName::parse(hello.server_name()?).ok()?;
    let entry = worker.shared.routes.load().entry_of(&name, Scheme::Https)?.clone();
    Some((name, entry))
}

/// Ends a handshake with the alert `unrecognized_name` (RFC 6066 §3). It goes out in the clear, before
/// any key is made.
async fn refuse(mut stream: Stream) {
    // Record type alert, version TLS 1.2, two bytes: fatal, unrecognized_name.
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    // The client may be gone already, which is just as well.
    let _: io::Result<()> = async {
        stream.write_all(&ALERT).await?;
        stream.shutdown().await
    }
    .await;
}

/// The certificate for a name, waited for if it is still to be ordered.
async fn certificate(worker: &Worker, name: &HostName, entry: &Entry) -> Option<Arc<Served>> {
    let shared = &worker.shared;
    let current = || shared.certificates.load().find(name).cloned();
    if let Some(served) = current() {
        return Some(served);
    }
    // From before the second look, so that no snapshot slips through between look and wait.
    let mut changed = shared.certificates_changed.subscribe();
    shared.events.tell(Event::CertificateWanted { name: name.clone() });
    // The route's own places first: names made up below one wildcard must not take those of all.
    let _of_route = Waiter::admit(&entry.waiters, WAITERS_PER_ROUTE)?;
    let _of_all = Waiter::admit(&shared.counts.certificate_waiters, shared.config.limits.certificate_waiters)?;
    let appears = async {
        loop {
            if let Some(served) = current() {
                return Some(served);
            }
            changed.changed().await.ok()?;
        }
    };
    tokio::select! {
        served = tokio::time::timeout(shared.config.certificate_wait, appears) => served.ok().flatten(),
        () = worker.stop.drain.cancelled() => None,
    }
}

/// Handshakes that may wait for certificates of one route at the same time; one more is ended.
const WAITERS_PER_ROUTE: usize = 64;

/// A place among a bounded number of waiting handshakes.
struct Waiter<'a>(&'a AtomicUsize);

impl Waiter<'_> {
    fn admit(count: &AtomicUsize, max: usize) -> Option<Waiter<'_>> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter(count);
        (before < max.max(1)).then_some(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_bounded_and_leave_no_trace() {
        let count = AtomicUsize::new(0);
        let first = Waiter::admit(&count, 1);
        assert!(first.is_some());
        assert!(Waiter::admit(&count, 1).is_none());
        drop(first);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(Waiter::admit(&count, 1).is_some());
    }
}
