//! TLS towards upstreams: who is trusted, under which name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::{ClientCertificates, Identity};
use crate::destination::DestinationHost;
use crate::route::UpstreamTls;

/// The TLS side of an upstream. Two destinations share a profile, and with it their pooled connections
/// and sessions, exactly if they verify the same name by the same rules.
pub(crate) struct Profile {
    /// Tells profiles apart; never reused, never zero.
    id: u64,
    /// What to connect with, or why there can be no connection.
    client: Result<Client, String>,
    /// Who we are, if the route says so; that decides with what then.
    identity: Option<Identity>,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Profile {
    /// The profile of these settings, the existing one where there is one. Takes a lock: called when a
    /// route table is built, not by requests.
    pub(crate) fn of(settings: &UpstreamTls, host: &DestinationHost, is_http2: bool) -> Arc<Profile> {
        let name = settings.server_name.clone().unwrap_or_else(|| bare_name(host));
        if let Some(certificate) = &settings.client_certificate {
            return Arc::new(Profile::identified(certificate.clone(), name, settings.clone(), is_http2));
        }
        let key = (name, settings.insecure, settings.ca.clone(), is_http2);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if let Some(profile) = known.get(&key).and_then(Weak::upgrade) {
            return profile;
        }
        known.retain(|_, profile| profile.strong_count() > 0);
        let client = Client::new(&key.0, settings, is_http2, None);
        let profile = Arc::new(Profile { id: next_id(), client, identity: None });
        known.insert(key, Arc::downgrade(&profile));
        profile
    }

    /// One that shows a certificate: nobody else's.
    fn identified(certificate: String, name: String, settings: UpstreamTls, is_http2: bool) -> Profile {
        let make = move |key: &Arc<CertifiedKey>| Client::new(&name, &settings, is_http2, Some(key));
        let identity = Some(Identity::new(certificate, make));
        Profile { id: next_id(), client: Err("it shows a certificate".into()), identity }
    }

    /// Tells apart what may not share connections.
    pub(crate) fn id(&self, certificates: &ArcSwap<ClientCertificates>) -> u64 {
        match &self.identity {
            None => self.id,
            Some(identity) => identity.shown(certificates).map_or(self.id, |shown| shown.id),
        }
    }

    /// With what to connect, and the name to verify.
    ///
    /// # Errors
    ///
    /// Why that is not possible.
    pub(crate) fn client(&self, certificates: &ArcSwap<ClientCertificates>) -> Result<Client, String> {
        match &self.identity {
            None => self.client.clone(),
            Some(identity) => identity.shown(certificates)?.client.clone(),
        }
    }
}

/// An id that no profile has.
pub(super) fn next_id() -> u64 {
    static ID: AtomicU64 = AtomicU64::new(1);
    ID.fetch_add(1, Ordering::Relaxed)
}

/// Name, insecure, CA, HTTP/2.
type Key = (String, bool, Option<String>, bool);

static KNOWN: Mutex<Option<HashMap<Key, Weak<Profile>>>> = Mutex::new(None);

fn bare_name(host: &DestinationHost) -> String {
    match host {
        DestinationHost::Address(address) => address.to_string(),
        DestinationHost::Name(name) => name.trim_end_matches('.').to_owned(),
        DestinationHost::Service(_) | DestinationHost::Unix(_) => host.to_string(),
    }
}

impl Client {
    fn new(
        name: &str,
        settings: &UpstreamTls,
        is_http2: bool,
        certificate: Option<&Arc<CertifiedKey>>,
    ) -> Result<Client, String> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is not a name that TLS can verify: set tls.server_name"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let builder = if settings.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny::new(&provider)))
        } else {
            builder.with_root_certificates(roots(settings.ca.as_deref())?)
        };
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone()))),
        };
        config.alpn_protocols = vec![if is_http2 { H2 } else { HTTP1 }.to_vec()];
        Ok(Client { config: Arc::new(config), name })
    }
}

/// The protocols' names in a handshake (RFC 7301 §6).
pub(crate) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The system's roots plus those of the route.
fn roots(ca: Option<&str>) -> Result<Arc<RootCertStore>, String> {
    let system = system_roots();
    let Some(ca) = ca else {
        return Ok(system.clone());
    };
    let mut roots = RootCertStore::clone(system);
    roots.extend(parse_ca(ca)?.roots);
    Ok(Arc::new(roots))
}

fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for fault in &loaded.errors {
            tracing::warn!(%fault, "some of the system's trusted certificates could not be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(loaded.certs);
        Arc::new(roots)
    })
}

/// The certificates of a PEM text as trust anchors; an error if there is none or one is not valid.
pub(crate) fn parse_ca(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|fault| fault.to_string())?;
        roots.add(certificate).map_err(|fault| fault.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no CERTIFICATE section".into());
    }
    Ok(roots)
}

/// For routes that say `insecure`: any certificate will do, but the handshake itself must be sound.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl AcceptAny {
    fn new(provider: &CryptoProvider) -> AcceptAny {
        AcceptAny(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> DestinationHost {
        DestinationHost::Name(text.into())
    }

    #[test]
    fn equal_settings_share_a_profile() {
        let strict = UpstreamTls::default();
        let loose = UpstreamTls { insecure: true, ..UpstreamTls::default() };
        let a = Profile::of(&strict, &name("a.example"), false);
        assert!(Arc::ptr_eq(&a, &Profile::of(&strict, &name("a.example"), false)));
        assert!(!Arc::ptr_eq(&a, &Profile::of(&strict, &name("b.example"), false)));
        assert!(!Arc::ptr_eq(&a, &Profile::of(&loose, &name("a.example"), false)));
        assert!(!Arc::ptr_eq(&a, &Profile::of(&strict, &name("a.example"), true)));
    }

    #[test]
    fn a_name_that_cannot_be_verified_is_told() {
        let profile = Profile::of(&UpstreamTls::default(), &name("a b"), false);
        assert!(profile.client.is_err());
    }
}
