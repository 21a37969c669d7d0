//! Certificates by which this cluster shows upstreams who it is: put by people, sealed in the store, followed by the proxy.

use std::collections::BTreeMap;
use std::sync::Arc;

use roo_acme::{Certificate, Facts};
use roo_kv::{Event, Key, PutOptions, SealError, Store};
use roo_proxy::{ClientCertificates, Control};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Vault;
use crate::keys;

const NAME_CHARS_MAX: usize = 64;

/// Why one can't be put or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientCertificateError {
    #[error(
        "`{name}` is no name for a client certificate: it has 1 to {NAME_CHARS_MAX} letters, digits, dots, dashes and underscores"
    )]
    BadName { name: String },
    #[error("certificate and key can't be used: {fault}")]
    Unusable { fault: String },
    #[error("there is no client certificate called `{name}`")]
    Unknown { name: String },
    #[error("it can't be sealed: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] roo_kv::Error),
}

/// What this node knows of them.
#[derive(Clone)]
pub(crate) struct ClientCertificateBook(watch::Receiver<Arc<BTreeMap<String, Facts>>>);

impl ClientCertificateBook {
    /// One object per certificate, without its key.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let row = |(name, facts): (&String, &Facts)| {
            json!({
                "name": name,
                "names": facts.names,
                "issuer": facts.issuer,
                "not_before": facts.not_before.to_string(),
                "not_after": facts.not_after.to_string(),
                "serial": facts.serial,
            })
        };
        self.0.borrow().iter().map(row).collect()
    }
}

/// Puts one, in place of a former one of the name.
pub(crate) async fn put(
    store: &Store,
    vault: &Vault,
    name: &str,
    chain_pem: String,
    key_pem: String,
) -> Result<(), ClientCertificateError> {
    if !is_name(name) {
        return Err(ClientCertificateError::BadName { name: name.to_owned() });
    }
    let unusable = |fault: String| ClientCertificateError::Unusable { fault };
    roo_proxy::certified_key(&chain_pem, &key_pem).map_err(|error| unusable(error.to_string()))?;
    let certificate = Certificate::from_pem(chain_pem, key_pem, "").map_err(|error| unusable(error.to_string()))?;
    let key = keys::client_certificate(name);
    let sealed = vault.seal(&key, &certificate.encode())?;
    store.put(key, sealed, PutOptions::default()).await?;
    Ok(())
}

/// Removes one. What is under way with it ends on it.
pub(crate) async fn remove(store: &Store, name: &str) -> Result<(), ClientCertificateError> {
    let unknown = || ClientCertificateError::Unknown { name: name.to_owned() };
    if !is_name(name) {
        return Err(unknown());
    }
    store.delete(&keys::client_certificate(name), None).await?.map(drop).ok_or_else(unknown)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Keeps the proxy's as the store has them. Ends when the store does.
pub(super) fn publish(store: &Store, vault: Arc<Vault>, control: Control) -> ClientCertificateBook {
    let (sender, book) = watch::channel(Arc::default());
    let mut changes = store.watch(keys::CLIENT_CERTIFICATE_PREFIX);
    tokio::spawn(async move {
        let mut all = BTreeMap::new();
        while let Ok(batch) = changes.next_all().await {
            if batch.reset {
                all.clear();
            }
            for event in batch.events {
                let prefix = keys::CLIENT_CERTIFICATE_PREFIX;
                let name = event.key().as_str().strip_prefix(prefix).unwrap_or_default().to_owned();
                // What was known by the name is void even if what is there now can't be read.
                all.remove(&name);
                if let Event::Put { key, entry, .. } = event {
                    match open(&vault, &key, &entry.value) {
                        Ok(opened) => drop(all.insert(name, opened)),
                        Err(error) => tracing::error!(name, error, "a stored client certificate can't be used"),
                    }
                }
            }
            let keys = all.iter().map(|(name, (_, key))| (name.clone(), Arc::clone(key)));
            control.set_client_certificates(ClientCertificates::new(keys));
            let facts = all.iter().map(|(name, (facts, _))| (name.clone(), Facts::clone(facts)));
            sender.send_replace(Arc::new(facts.collect()));
        }
    });
    ClientCertificateBook(book)
}

type Opened = (Facts, Arc<rustls::sign::CertifiedKey>);

fn open(vault: &Vault, key: &Key, record: &[u8]) -> Result<Opened, String> {
    let plain = vault.open(key, record).map_err(|error| error.to_string())?;
    let certificate = Certificate::decode(&plain).map_err(|error| error.to_string())?;
    let key = roo_proxy::certified_key(&certificate.chain_pem, &certificate.key_pem).map_err(|e| e.to_string())?;
    Ok((certificate.facts(), key))
}
