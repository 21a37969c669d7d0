//! The TLS connection over which two tasks prove themselves, and the two messages that go over it.
//!
//! The certificates are made for the moment and signed by nobody; who is at the other end is what [`super::proof`] shows.

use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use zeroize::Zeroizing;

use super::proof::Material;
use crate::error::StartError;
use crate::id::{ClusterId, NodeId};
use crate::peer::StandingForm;
use crate::secret::SecretId;

/// Tells such connections from those of peers, on the same port.
pub(crate) const ALPN: &[u8] = b"roo-attest/1";

/// Separates the exported material from other uses of the connection.
const LABEL: &[u8] = b"EXPORTER-roo-attest";

/// Bytes of a message.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What the asking end says first.
#[derive(Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) proof: Vec<u8>,
}

/// What it is told.
#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    /// The asked end proves itself as well, and hands over what it has.
    Given { proof: Vec<u8>, gift: Gift },
    /// It does not, for this reason.
    Refused(String),
}

/// What a node that proved itself is given.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Gift {
    pub(super) secret: String,
    pub(super) secret_id: SecretId,
    /// Who gives it.
    pub(super) node: NodeId,
    /// Where the giver stands.
    pub(super) standing: StandingForm,
    /// That cluster has several nodes, or holds something that somebody would miss.
    pub(super) settled: bool,
}

impl Gift {
    /// The cluster that the giver is in.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        match self.standing {
            StandingForm::Member { cluster } => Some(cluster),
            _ => None,
        }
    }

    /// Whether the giver founds this cluster, or is in it.
    pub(super) fn is_for(&self, cluster: ClusterId) -> bool {
        matches!(self.standing, StandingForm::Founding { cluster: its } | StandingForm::Member { cluster: its } if its == cluster)
    }
}

impl Drop for Gift {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

/// For being asked.
pub(super) fn server() -> Result<Arc<ServerConfig>, StartError> {
    build_server().map_err(|error| StartError::Tls { reason: error.to_string() })
}

fn build_server() -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For asking.
pub(super) fn client() -> Result<Arc<ClientConfig>, StartError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| StartError::Tls { reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The name on both sides; it says nothing.
const NAME: &str = "attest.node.roo";

pub(super) fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a DNS name")
}

/// What the connection exports at this end.
pub(super) fn material<T>(connection: &rustls::ConnectionCommon<T>) -> io::Result<Material> {
    connection.export_keying_material([0; 32], LABEL, None).map_err(io::Error::other)
}

/// Messages over a connection, each preceded by its length.
pub(super) struct Line<S>(Framed<S, LengthDelimitedCodec>);

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Framed::new(stream, LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_codec()))
    }

    pub(super) async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let bytes = Zeroizing::new(postcard::to_stdvec(message).map_err(io::Error::other)?);
        self.0.send(bytes::Bytes::copy_from_slice(&bytes)).await
    }

    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let frame = self.0.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        postcard::from_bytes(&frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Takes any certificate whose key the other end has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
