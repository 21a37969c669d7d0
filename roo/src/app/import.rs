//! Certificates that people bring: checked, sealed, and stored under each name they are for.

use std::str::FromStr;

use jiff::Timestamp;
use roo_acme::{Certificate, ImportError, Managed};
use roo_kv::{Compare, Op, SealError, Store, Txn};
use roo_proxy::HostPattern;

use super::Vault;
use crate::keys;

/// A certificate that somebody brings.
pub(crate) struct Import {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    /// Also if it has ended.
    pub(crate) force: bool,
    pub(crate) managed: Managed,
    /// The directory of the CA that it is from, if that is known.
    pub(crate) authority: Option<String>,
}

/// Why a certificate was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotImported {
    #[error(transparent)]
    Unfit(#[from] ImportError),
    #[error("certificate and key can't be used: {0}")]
    Unusable(#[from] roo_proxy::CertificateError),
    #[error("it is for {names:?}, and none of these is the name of a host or a wildcard")]
    NoHost { names: Vec<String> },
    #[error("it can't be sealed: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] roo_kv::Error),
}

/// A certificate that can be stored, and the names under which.
pub(crate) struct Checked {
    pub(crate) certificate: Certificate,
    pub(crate) names: Vec<String>,
}

/// Reads and checks it.
pub(crate) fn check(import: Import) -> Result<Checked, NotImported> {
    let mut certificate = Certificate::import(&import.chain_pem, &import.key_pem)?;
    if !import.force {
        certificate.check_life(Timestamp::now())?;
    }
    roo_proxy::certified_key(&certificate.chain_pem, &certificate.key_pem)?;
    certificate.managed = import.managed;
    certificate.authority = import.authority.unwrap_or(certificate.authority);
    let hosts = certificate.names.iter().filter_map(|name| HostPattern::from_str(name).ok());
    let names: Vec<String> = hosts.map(|host| host.to_string()).collect();
    match names.is_empty() {
        true => Err(NotImported::NoHost { names: certificate.names }),
        false => Ok(Checked { certificate, names }),
    }
}

/// Stores it under its names, all or none, in place of what was there.
pub(crate) async fn store(store: &Store, vault: &Vault, checked: &Checked) -> Result<(), NotImported> {
    store_where(store, vault, checked, Vec::new()).await.map(drop)
}

/// The same if `compare` holds. Whether it did.
pub(super) async fn store_where(
    store: &Store,
    vault: &Vault,
    checked: &Checked,
    compare: Vec<Compare>,
) -> Result<bool, NotImported> {
    let plain = checked.certificate.encode();
    let mut success = Vec::new();
    for name in &checked.names {
        let key = keys::certificate(name);
        let value = vault.seal(&key, &plain)?;
        success.push(Op::Put { key, value, lease: None });
        success.push(Op::Delete { key: keys::attempts(name) });
        success.push(Op::Delete { key: keys::wish(name) });
    }
    Ok(store.txn(Txn { compare, success, failure: Vec::new() }).await?.succeeded)
}
