//! The certificate that the API shows, and how it is kept fresh while the node runs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::api_ca;

/// How old a certificate gets before another is made.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often the clock is looked at: it may be set at any time.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The name of the machine, or of the container.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// What a connection of TLS begins with: a record of a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// What the API shows, as it changes. Clones share it.
#[derive(Clone)]
pub(crate) struct ApiTls {
    store: roo_kv::Store,
    listen: IpAddr,
    shown: Arc<watch::Sender<Shown>>,
}

struct Shown {
    config: Arc<ServerConfig>,
    names: Vec<String>,
    made: SystemTime,
}

impl ApiTls {
    /// Signs a first certificate for an API that listens on `listen`.
    ///
    /// # Errors
    /// If that is not possible, as text.
    pub(crate) fn new(store: roo_kv::Store, listen: SocketAddr) -> Result<Self, String> {
        let shown = make(&store, listen.ip(), SystemTime::now()).map_err(|error| error.to_string())?;
        Ok(Self { store, listen: listen.ip(), shown: Arc::new(watch::Sender::new(shown)) })
    }

    /// Takes the client's part of the handshake and gives the own. Without an end of its own.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.shown.borrow().config);
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Keeps the certificate fresh and follows the secrets and the names of the node until told to stop.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let (mut secrets, mut status) = (self.store.keyring().follow(), self.store.status_changes());
        loop {
            let due = tokio::select! {
                // Both senders live as long as the store, which is held here.
                _ = secrets.changed() => true,
                _ = status.changed() => false,
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = stop.cancelled() => return,
            };
            let now = SystemTime::now();
            if due || self.is_due(now) {
                match make(&self.store, self.listen, now) {
                    Ok(shown) => drop(self.shown.send_replace(shown)),
                    // The former one is good for days, and it is tried again within one.
                    Err(error) => tracing::error!(%error, "cannot make a new certificate for the API"),
                }
            }
        }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        let shown = self.shown.borrow();
        // An error: the clock was set back to before it was made.
        let old = now.duration_since(shown.made).map_or(true, |age| age >= RENEW_AFTER);
        old || shown.names != names(self.listen, &self.store.status().address)
    }
}

/// Whether a connection begins as TLS does. Takes nothing from it.
pub(super) async fn speaks_tls(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0];
    match stream.peek(&mut start).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(start == [HANDSHAKE_RECORD]),
    }
}

/// Whether the two agreed on HTTP/2.
pub(super) fn agreed_on_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn make(store: &roo_kv::Store, listen: IpAddr, now: SystemTime) -> Result<Shown, Box<dyn std::error::Error>> {
    let names = names(listen, &store.status().address);
    let (chain, key) = api_ca::sign(&store.keyring().secrets(), &names, now)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Shown { config: Arc::new(config), names, made: now })
}

/// The names of a node: for verbs, on its machine, of its machine, where it listens, and where others reach it.
fn names(listen: IpAddr, advertised: &str) -> Vec<String> {
    let mut names: Vec<String> = [api_ca::NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = advertised.rsplit_once(':').map_or(advertised, |(host, _)| host);
    let machine = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    let listen = (!listen.is_unspecified()).then(|| listen.to_string());
    for name in [host.trim_matches(['[', ']']).to_owned(), machine.trim().to_owned()].into_iter().chain(listen) {
        // Anything else would make the whole certificate impossible.
        let fits = rustls::pki_types::ServerName::try_from(name.as_str()).is_ok();
        if fits && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_by_its_addresses() {
        let listen: IpAddr = "10.0.0.7".parse().expect("an address");
        for (advertised, name) in [("10.0.0.8:6300", "10.0.0.8"), ("[fd00::1]:6300", "fd00::1"), ("roo-1:1", "roo-1")] {
            let names = names(listen, advertised);
            assert!(["api.roo", "::1", "10.0.0.7", name].iter().all(|n| names.iter().any(|m| m == n)), "{names:?}");
        }
        assert!(!names(IpAddr::from([0, 0, 0, 0]), "").iter().any(|name| name.is_empty() || name == "0.0.0.0"));
    }
}
