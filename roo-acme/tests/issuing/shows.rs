//! The TLS server at port 443 of every name: shows the published answers, as any node would.

use std::sync::Arc;

use roo_acme::tls_alpn_certificate;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use crate::vault::Cluster;

/// A running server; stops when dropped.
pub(crate) struct Shows {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Shows {
    pub(crate) async fn start(cluster: &Arc<Cluster>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cluster = cluster.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, cluster.clone()));
            }
        });
        Self { port, task }
    }
}

impl Drop for Shows {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends the connection at once if there is nothing to be shown.
async fn serve(stream: TcpStream, cluster: Arc<Cluster>) -> Option<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
    let name = start.client_hello().server_name()?.to_owned();
    let (chain, key) = tls_alpn_certificate(&name, &cluster.tls_answer(&name)?).unwrap();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    start.into_stream(Arc::new(config)).await.ok()?.shutdown().await.ok()
}
