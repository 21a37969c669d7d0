//! TLS to an engine on the network.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};

/// How an engine on the network is spoken to by TLS. The files, in PEM, are read for each session with it, so that they may
/// be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may have signed the engine's certificate; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate to show, with those behind it, and its key; `None`: none is shown.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why no TLS can be spoken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{option} is '{}', which can't be used: {reason}", .path.display())]
    File { option: &'static str, path: PathBuf, reason: String },
    #[error("the system's roots can't be read ({reason}): set --docker-ca")]
    Roots { reason: String },
    #[error("'{host}' in --docker-host is no name that a certificate can have")]
    Name { host: String },
}

impl Tls {
    pub(crate) fn connector(&self) -> Result<TlsConnector, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Roots { reason: error.to_string() })?
            .with_root_certificates(self.roots()?);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("--docker-cert", certificate)?;
                let file = |reason: String| TlsError::File { option: "--docker-key", path: key.clone(), reason };
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(error.to_string()))?;
                builder.with_client_auth_cert(chain, private).map_err(|error| file(error.to_string()))?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates("--docker-ca", path)? {
                    let file = |reason: String| TlsError::File { option: "--docker-ca", path: path.clone(), reason };
                    roots.add(certificate).map_err(|error| file(error.to_string()))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if let (true, Some(error)) = (roots.is_empty(), found.errors.first()) {
                    return Err(TlsError::Roots { reason: error.to_string() });
                }
            }
        }
        Ok(roots)
    }
}

/// All certificates of a file, at least one.
fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |reason: String| TlsError::File { option, path: path.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| file(error.to_string()))?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file(error.to_string()))?;
    if certificates.is_empty() {
        return Err(file("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}
