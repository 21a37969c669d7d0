//! Certificates for the peers: a CA and one certificate for each name, in files.

use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::name;
use crate::support::context::Context;

/// Many certificates in one directory.
pub struct Certificates {
    /// The CA's own.
    pub root: String,
    /// Chain and key of the k-th name in `<k>.pem`.
    pub dir: PathBuf,
    pub count: usize,
    /// Those of names to be added later, by name and in no directory yet.
    pub more: Vec<(String, String)>,
}

impl Certificates {
    /// Makes `count` certificates, and `more` that are added later.
    pub fn make(context: &Context, count: usize, more: usize) -> Result<Certificates> {
        let mut ca = CertificateParams::new(Vec::<String>::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let root = ca.self_signed(&key)?.pem();
        let issuer = Issuer::new(ca, key);
        let dir = context.path("certificates");
        std::fs::create_dir(&dir)?;
        let make = |name: String| -> Result<String> {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let certificate = CertificateParams::new([name])?.signed_by(&key, &issuer)?;
            Ok(certificate.pem() + &key.serialize_pem())
        };
        for k in 0..count {
            std::fs::write(dir.join(format!("{k}.pem")), make(name(k))?)?;
        }
        let more = (count..count + more).map(|k| Ok((name(k), make(name(k))?))).collect::<Result<_>>()?;
        Ok(Certificates { root, dir, count, more })
    }
}
