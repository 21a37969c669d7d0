//! The certificate of the peers.

use std::path::PathBuf;

use anyhow::Result;

use crate::support::context::Context;

/// A self-signed P-256 certificate in files.
pub struct Certificate {
    pub pem: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificate and key in one file, as HAProxy wants it.
    pub both: PathBuf,
}

impl Certificate {
    /// Makes one for `name` under `context`.
    pub fn make(context: &Context, name: &str) -> Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let pem = rcgen::CertificateParams::new([name.to_owned()])?.self_signed(&key)?.pem();
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = context.path(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let secret = key.serialize_pem();
        let both = file("both.pem", format!("{pem}{secret}"))?;
        Ok(Self { certificate: file("certificate.pem", pem.clone())?, key: file("key.pem", secret)?, both, pem })
    }
}
