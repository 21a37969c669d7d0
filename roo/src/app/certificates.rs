//! Certificates: from the store to the proxy, and what is known about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roo_acme::Facts;
use roo_kv::{Event, Store};
use roo_proxy::{Certificates, Control, HostPattern};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Vault;
use crate::keys;

/// Facts about certificates, by name.
pub(super) type Inventory = Arc<BTreeMap<String, Facts>>;

/// What this node knows about certificates.
#[derive(Clone)]
pub(crate) struct CertificateBook {
    have: watch::Receiver<Inventory>,
    wanted: watch::Receiver<Arc<BTreeSet<String>>>,
}

impl CertificateBook {
    /// How many certificates there are.
    pub(crate) fn len(&self) -> usize {
        self.have.borrow().len()
    }

    /// Names and the end of their certificates, in seconds since 1970.
    pub(crate) fn not_after(&self) -> Vec<(String, i64)> {
        self.have.borrow().iter().map(|(name, facts)| (name.clone(), facts.not_after.as_second())).collect()
    }

    /// One object per certificate and per name that waits for one.
    pub(crate) async fn rows(&self, vault: &Vault) -> Vec<Value> {
        let have = self.have.borrow().clone();
        let wanted = self.wanted.borrow().clone();
        let mut rows: Vec<Value> = have.iter().map(|(name, facts)| row(name, facts, wanted.contains(name))).collect();
        for name in wanted.iter().filter(|name| !have.contains_key(*name)) {
            let (state, note) = match vault.attempts(name).await {
                Some(attempts) if attempts.failures > 0 => ("failed", failure(&attempts)),
                _ => ("waiting", String::new()),
            };
            rows.push(json!({ "name": name, "state": state, "note": note }));
        }
        rows
    }

    /// Waits until there is a certificate for `name`.
    pub(super) async fn wait_for(&self, name: &str) {
        let mut have = self.have.clone();
        // An error means that the store has stopped: then nobody waits any more.
        let _ = have.wait_for(|have| have.contains_key(name)).await;
    }

    /// The facts, to be followed.
    pub(super) fn inventory(&self) -> watch::Receiver<Inventory> {
        self.have.clone()
    }
}

fn failure(attempts: &roo_acme::Attempts) -> String {
    format!("failed {} times, next try {}: {}", attempts.failures, attempts.next_at, attempts.last_error)
}

fn row(name: &str, facts: &Facts, wanted: bool) -> Value {
    json!({
        "name": name,
        "state": if wanted { "ready" } else { "unused" },
        "names": facts.names,
        "issuer": facts.issuer,
        "not_before": facts.not_before.to_string(),
        "not_after": facts.not_after.to_string(),
        "serial": facts.serial,
    })
}

/// Keeps the proxy's certificates as the store has them. Ends when the store does.
pub(super) fn publish(
    store: &Store,
    vault: Arc<Vault>,
    control: Control,
    wanted: watch::Receiver<Arc<BTreeSet<String>>>,
) -> CertificateBook {
    let (sender, have) = watch::channel(Inventory::default());
    let mut changes = store.watch(keys::CERTIFICATE_PREFIX);
    tokio::spawn(async move {
        let mut served = BTreeMap::new();
        let mut facts = BTreeMap::new();
        while let Ok(batch) = changes.next_all().await {
            if batch.reset {
                served.clear();
                facts.clear();
            }
            for event in batch.events {
                let name = event.key().as_str().strip_prefix(keys::CERTIFICATE_PREFIX).unwrap_or_default().to_owned();
                match event {
                    Event::Put { entry, .. } => match open(&vault, &name, &entry.value) {
                        Ok((known, key)) => {
                            facts.insert(name.clone(), known);
                            served.insert(name, key);
                        }
                        Err(error) => tracing::error!(name, error, "a stored certificate can't be used"),
                    },
                    Event::Delete { .. } => {
                        facts.remove(&name);
                        served.remove(&name);
                    }
                }
            }
            control.set_certificates(Certificates::new(served.values().cloned()));
            sender.send_replace(Arc::new(facts.clone()));
        }
    });
    CertificateBook { have, wanted }
}

type Opened = (Facts, (Vec<HostPattern>, Arc<rustls::sign::CertifiedKey>));

fn open(vault: &Vault, name: &str, record: &[u8]) -> Result<Opened, String> {
    let certificate = vault.open_certificate(name, record)?;
    let key = roo_proxy::certified_key(&certificate.chain_pem, &certificate.key_pem).map_err(|e| e.to_string())?;
    let pattern = name.parse::<HostPattern>().map_err(|error| error.to_string())?;
    Ok((certificate.facts(), (vec![pattern], key)))
}
