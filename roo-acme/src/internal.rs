//! Roo's own CA: one root for the cluster, leaves signed by it.

use crate::certificate::CertificateError;
use crate::record::RecordError;
use crate::vault::{Vault, VaultError};

/// The root certificate of the internal CA as PEM, for `curl --cacert`.
///
/// Created once for the cluster: the first node to ask makes it, all others get the same one.
pub async fn internal_root_pem<V: Vault>(vault: &V) -> Result<String, InternalError> {
    let _ = vault;
    Err(InternalError::Signing { reason: String::new() })
}

/// Why the internal CA could not do it.
#[derive(Debug, thiserror::Error)]
pub enum InternalError {
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The stored CA is not readable.
    #[error("the stored internal CA is not readable")]
    Record(#[from] RecordError),
    /// Making or signing failed.
    #[error("the internal CA cannot sign: {reason}")]
    Signing {
        /// What the signer said.
        reason: String,
    },
    /// What was signed is not usable.
    #[error("the internal CA made an unusable certificate")]
    Certificate(#[from] CertificateError),
}
