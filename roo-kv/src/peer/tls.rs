//! Certificates between nodes. Whoever has the secret can make one; nobody else can.
//!
//! From the secret follows the Ed25519 key of an authority. Each node signs certificates for itself, with its node id
//! as the DNS name `<id>.node.roo`. A dialer that knows whom it wants verifies that name; one that only has an address
//! verifies [`ANY_NODE`], which every certificate carries, and then reads the id.
//!
//! A certificate lives from a week before it was made to a week after, and a new one is made every day, and whenever
//! the clock was set back or far ahead. So clocks may differ by six days, and one that was wrong at the start does no
//! harm once it is right. While one secret takes the place of another, certificates of both are accepted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::StartError;
use crate::id::NodeId;
use crate::keyring::{Keyring, Secrets};
use crate::secret::Secret;

/// A name that every node's certificate carries.
const ANY_NODE: &str = "any.node.roo";
const NODE_SUFFIX: &str = ".node.roo";

/// How long a certificate is valid before and after the moment at which it is made.
const VALID: Duration = Duration::from_secs(7 * 24 * 3600);
/// How old a certificate gets before another is made.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often the clock is looked at: it may be set at any time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a node shows to peers and demands of them, now.
#[derive(Clone)]
struct Shown {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    made: SystemTime,
    narrowed: u64,
}

/// What a node shows to peers and demands of them, as it changes. Clones share it.
#[derive(Clone)]
pub(crate) struct Credentials {
    node: NodeId,
    keyring: Arc<Keyring>,
    shown: Arc<watch::Sender<Shown>>,
}

impl Credentials {
    /// Derives the authority and signs a first certificate.
    pub(crate) fn new(keyring: Arc<Keyring>, node: NodeId) -> Result<Self, StartError> {
        let shown = shown(&keyring.secrets(), node, SystemTime::now())?;
        Ok(Self { node, keyring, shown: Arc::new(watch::Sender::new(shown)) })
    }

    /// For dialing.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.shown.borrow().client)
    }

    /// For being dialed.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shown.borrow().server)
    }

    /// Completes when a secret that was accepted when this was called is accepted no more. The future may be dropped.
    pub(crate) fn narrowed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut shown = self.shown.subscribe();
        let before = shown.borrow_and_update().narrowed;
        async move {
            // The sender goes with the node.
            if shown.wait_for(|shown| shown.narrowed > before).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Keeps the certificate fresh and follows the secrets until told to stop.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut secrets = self.keyring.follow();
        loop {
            tokio::select! {
                // The sender lives as long as the keyring, which is held here.
                _ = secrets.changed() => self.renew(),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let made = self.shown.borrow().made;
                    if is_due(made, SystemTime::now()) {
                        self.renew();
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    fn renew(&self) {
        match shown(&self.keyring.secrets(), self.node, SystemTime::now()) {
            Ok(shown) => {
                self.shown.send_replace(shown);
                tracing::debug!("made a new certificate for peers");
            }
            // The former one is good for days, and it is tried again within one.
            Err(error) => tracing::error!(%error, "cannot make a new certificate for peers"),
        }
    }
}

/// Whether it is time for a new certificate.
fn is_due(made: SystemTime, now: SystemTime) -> bool {
    // An error: the clock was set back to before it was made.
    now.duration_since(made).map_or(true, |age| age >= RENEW_AFTER)
}

fn shown(secrets: &Secrets, node: NodeId, now: SystemTime) -> Result<Shown, StartError> {
    build(secrets, node, now).map_err(|e| StartError::Tls { reason: e.to_string() })
}

fn build(secrets: &Secrets, node: NodeId, now: SystemTime) -> Result<Shown, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for secret in secrets.all() {
        roots.add(authority_params().self_signed(&authority_key(secret)?)?.der().clone())?;
    }
    let roots = Arc::new(roots);
    let issuer = Issuer::new(authority_params(), authority_key(secrets.current())?);
    let key = KeyPair::generate()?;
    let certificate = node_params(node, now)?.signed_by(&key, &issuer)?;
    let chain = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain.clone(), key.clone_key())?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the look at the other's certificate.
    client.resumption = rustls::client::Resumption::disabled();

    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    server.send_tls13_tickets = 0;
    Ok(Shown { client: Arc::new(client), server: Arc::new(server), made: now, narrowed: secrets.narrowed() })
}

/// The name to verify when dialing.
pub(crate) fn server_name(node: Option<NodeId>) -> ServerName<'static> {
    let name = node.map_or_else(|| ANY_NODE.to_owned(), node_name);
    ServerName::try_from(name).expect("hexadecimal digits and fixed labels make a DNS name")
}

/// Whose certificate it is. Ask only for certificates that were verified.
pub(crate) fn node_of(chain: Option<&[CertificateDer<'_>]>) -> Option<NodeId> {
    let (_, certificate) = X509Certificate::from_der(chain?.first()?).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => name.strip_suffix(NODE_SUFFIX)?.parse().ok(),
        _ => None,
    })
}

fn node_name(node: NodeId) -> String {
    format!("{node}{NODE_SUFFIX}")
}

fn authority_key(secret: &Secret) -> Result<KeyPair, rcgen::Error> {
    let der = secret.peer_authority_key();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &rcgen::PKCS_ED25519)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Roo peers");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn node_params(node: NodeId, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![node_name(node), ANY_NODE.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, node.to_string());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // A clock that begins in 1970 has no week before it.
    params.not_before = now.checked_sub(VALID).unwrap_or(now).max(SystemTime::UNIX_EPOCH).into();
    params.not_after = (now + VALID).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustls::pki_types::UnixTime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use crate::disk::RealDisk;

    use super::*;

    const NODE: NodeId = NodeId(0xabc);

    fn secret(n: u8) -> Secret {
        Secret::from_text(&format!("the secret with number {n}")).unwrap()
    }

    fn credentials(dir: &std::path::Path, n: u8) -> (Arc<Keyring>, Credentials) {
        let keyring = Keyring::open(Arc::new(RealDisk), dir, secret(n)).unwrap();
        let credentials = Credentials::new(Arc::clone(&keyring), NODE).unwrap();
        (keyring, credentials)
    }

    /// Whether the two let each other in.
    async fn meet(dialer: &Credentials, dialed: &Credentials) -> bool {
        let (near, far) = tokio::io::duplex(64 << 10);
        let dialing = async {
            let mut stream = TlsConnector::from(dialer.client()).connect(server_name(None), near).await?;
            // That the other accepts this one's certificate shows with its first byte.
            stream.read_u8().await
        };
        let accepting = async {
            let mut stream = TlsAcceptor::from(dialed.server()).accept(far).await?;
            stream.write_u8(1).await?;
            stream.flush().await
        };
        let (dialed, accepted) = tokio::join!(dialing, accepting);
        dialed.is_ok() && accepted.is_ok()
    }

    #[test]
    fn a_certificate_names_its_node() {
        let now = SystemTime::now();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority_params(), authority_key(&secret(1)).unwrap());
        let certificate = node_params(NODE, now).unwrap().signed_by(&key, &issuer).unwrap();
        assert_eq!(node_of(Some(&[certificate.der().clone()])), Some(NODE));
        assert_eq!(node_of(None), None);
        assert_eq!(node_of(Some(&[CertificateDer::from(vec![1, 2, 3])])), None);
    }

    #[test]
    fn a_certificate_is_valid_for_a_week_to_either_side() {
        let now = SystemTime::now();
        let dir = tempfile::tempdir().unwrap();
        let secrets = Keyring::open(Arc::new(RealDisk), dir.path(), secret(1)).unwrap().secrets();
        let shown = build(&secrets, NODE, now).unwrap();
        let mut roots = RootCertStore::empty();
        let root = authority_params().self_signed(&authority_key(&secret(1)).unwrap()).unwrap();
        roots.add(root.der().clone()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority_params(), authority_key(&secret(1)).unwrap());
        let certificate = node_params(NODE, now).unwrap().signed_by(&key, &issuer).unwrap();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        )
        .build()
        .unwrap();
        let valid_at = |at: SystemTime| {
            use rustls::client::danger::ServerCertVerifier;
            let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
            verifier.verify_server_cert(certificate.der(), &[], &server_name(Some(NODE)), &[], at).is_ok()
        };
        let day = Duration::from_secs(24 * 3600);
        assert!(valid_at(now) && valid_at(now - 6 * day) && valid_at(now + 6 * day));
        assert!(!valid_at(now - 8 * day) && !valid_at(now + 8 * day));
        assert_eq!(shown.made, now);
    }

    #[test]
    fn a_new_certificate_is_due_every_day_and_when_the_clock_was_set() {
        let made = SystemTime::now();
        let hour = Duration::from_secs(3600);
        for (now, due) in [
            (made, false),
            (made + 23 * hour, false),
            (made + 24 * hour, true),
            (made + 10_000 * hour, true),
            (made - hour, true),
        ] {
            assert_eq!(is_due(made, now), due);
        }
        // Even where the clock starts in 1970.
        assert!(node_params(NODE, SystemTime::UNIX_EPOCH).is_ok());
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_another_one_and_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let (_, one) = credentials(&dir.path().join("one"), 1);
        let (_, two) = credentials(&dir.path().join("two"), 1);
        let before = one.server();
        one.renew();
        assert!(!Arc::ptr_eq(&before, &one.server()));
        assert!(meet(&one, &two).await && meet(&two, &one).await);
    }

    #[tokio::test]
    async fn nodes_at_neighbouring_steps_of_a_change_let_each_other_in_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("one")).unwrap();
        std::fs::create_dir(dir.path().join("two")).unwrap();
        let (ring_one, one) = credentials(&dir.path().join("one"), 1);
        let (ring_two, two) = credentials(&dir.path().join("two"), 1);
        let (_, stranger) = credentials(&dir.path().join("stranger"), 3);
        assert!(!meet(&stranger, &one).await && !meet(&one, &stranger).await);
        let steps: [fn(&Keyring) -> std::io::Result<()>; 3] = [
            |ring| ring.accept(&secret(2)),
            |ring| ring.change_to(secret(2).id()),
            |ring| ring.drop_others(secret(2).id()),
        ];
        for step in steps {
            for (ring, credentials) in [(&ring_one, &one), (&ring_two, &two)] {
                step(ring).unwrap();
                credentials.renew();
                assert!(meet(&one, &two).await && meet(&two, &one).await);
            }
        }
        let (_, late) = credentials(&dir.path().join("late"), 1);
        assert!(!meet(&late, &one).await && !meet(&one, &late).await);
        let (_, new) = credentials(&dir.path().join("new"), 2);
        assert!(meet(&new, &one).await && meet(&one, &new).await);
    }

    #[tokio::test]
    async fn whoever_has_connections_hears_when_a_secret_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, credentials) = credentials(dir.path(), 1);
        let heard = credentials.narrowed();
        ring.accept(&secret(2)).unwrap();
        ring.change_to(secret(2).id()).unwrap();
        credentials.renew();
        let still = credentials.narrowed();
        ring.drop_others(secret(2).id()).unwrap();
        credentials.renew();
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(heard, still) }).await.unwrap();
    }
}
