//! TLS to a node's API: whom a verb trusts.

use std::path::Path;
use std::sync::Arc;

use roo_kv::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Failure;
use crate::api_ca::{self, ApiCa};

/// The roots in a PEM file.
pub(super) fn roots_in(path: &Path) -> Result<RootCertStore, Failure> {
    let fault = |what: String| Failure::Usage(format!("the CA file {}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("it holds no certificate in PEM form; `roo ca api` prints the right one".to_owned()));
    }
    Ok(roots)
}

/// The roots that follow from secrets.
pub(super) fn roots_of(secrets: &[Secret]) -> Result<RootCertStore, Failure> {
    if secrets.is_empty() {
        return Err(Failure::Usage(
            "nothing is known to tell a node of the cluster from others; give --ca-file with what `roo ca api` prints, \
             --secret, or --data-dir of a node on this machine"
                .to_owned(),
        ));
    }
    let mut roots = RootCertStore::empty();
    for secret in secrets {
        let ca = ApiCa::of(secret).map_err(|error| Failure::Failed(error.to_string()))?;
        roots.add(ca.root().clone()).map_err(|error| Failure::Failed(error.to_string()))?;
    }
    Ok(roots)
}

/// Shakes hands with a node whose certificate comes from one of the roots, under whatever name it is reached.
pub(super) async fn connect(roots: RootCertStore, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(api_ca::NAME).map_err(std::io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
