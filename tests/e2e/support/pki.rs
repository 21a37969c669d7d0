//! Certificates of a person's own: a root, an intermediate under it, and what that signs.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A CA that is nobody's.
pub struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key and the one above it, PEM.
pub struct Issued {
    pub leaf: String,
    pub intermediate: String,
    pub key: String,
}

impl Pki {
    pub fn new() -> Result<Self> {
        let ca = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let root = CertifiedIssuer::self_signed(ca("Own Root"), KeyPair::generate()?)?;
        let intermediate = CertifiedIssuer::signed_by(ca("Own Intermediate"), KeyPair::generate()?, &root)?;
        Ok(Self { root, intermediate })
    }

    /// The root, PEM.
    pub fn root(&self) -> String {
        self.root.pem()
    }

    /// A certificate for `names`, made `age` days ago, that ends in `left` days; negative: before today.
    pub fn issue(&self, names: &[&str], age: i64, left: i64) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.not_before = days_from_now(-age).into();
        params.not_after = days_from_now(left).into();
        let leaf = params.signed_by(&key, &self.intermediate)?;
        Ok(Issued { leaf: leaf.pem(), intermediate: self.intermediate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// Chain in the right order.
    pub fn chain(&self) -> String {
        format!("{}{}", self.leaf, self.intermediate)
    }
}

fn days_from_now(days: i64) -> SystemTime {
    let span = Duration::from_hours(24 * days.unsigned_abs());
    if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}
