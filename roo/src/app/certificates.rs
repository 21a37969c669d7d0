//! Certificates: from the store to the proxy, and what is known about them.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;

use roo_acme::{Facts, Inventory, Names};
use roo_kv::{Batch, Event, Store};
use roo_proxy::{Certificates, Control, HostName, HostPattern};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Vault;
use crate::keys;

/// What this node knows about certificates.
#[derive(Clone)]
pub(crate) struct CertificateBook {
    have: watch::Receiver<Inventory>,
    wanted: watch::Receiver<Names>,
}

impl CertificateBook {
    /// Whether the store's certificates were read at least once.
    pub(crate) fn is_loaded(&self) -> bool {
        // Nobody has looked at this receiver. An error means that the store has stopped.
        self.have.has_changed().unwrap_or(true)
    }

    /// How many certificates there are.
    pub(crate) fn len(&self) -> usize {
        self.have.borrow().size()
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
            let (state, note) = waiting(name, vault).await;
            rows.push(json!({ "name": name, "state": state, "note": note }));
        }
        rows
    }

    /// Which certificate answers for a host, or why there is none.
    pub(crate) async fn explain(&self, host: &HostName, vault: &Vault) -> Value {
        let have = self.have.borrow().clone();
        let wildcard = host.as_str().split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let names = [Some(host.to_string()), wildcard];
        let found = names.iter().flatten().find_map(|name| Some((name, have.get(name)?)));
        if let Some((name, facts)) = found {
            return json!({
                "name": name,
                "state": "ready",
                "issuer": facts.issuer,
                "not_after": facts.not_after.to_string(),
            });
        }
        let wanted = self.wanted.borrow().clone();
        let Some(name) = names.into_iter().flatten().find(|name| wanted.contains(name)) else {
            return json!({ "state": "missing", "note": "nobody has asked for one" });
        };
        let (state, note) = waiting(&name, vault).await;
        json!({ "state": state, "note": note })
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

/// How far a certificate is that is not there yet.
async fn waiting(name: &str, vault: &Vault) -> (&'static str, String) {
    match vault.attempts(name).await {
        Some(attempts) if attempts.failures > 0 => ("failed", failure(&attempts)),
        _ => ("waiting", String::new()),
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
    wanted: watch::Receiver<Names>,
) -> CertificateBook {
    let (sender, have) = watch::channel(Inventory::default());
    let mut changes = store.watch(keys::CERTIFICATE_PREFIX);
    tokio::spawn(async move {
        let mut known = Known::default();
        while let Ok(batch) = changes.next_all().await {
            let reset = batch.reset;
            let opened = open_all(&vault, batch).await;
            known.apply(reset, opened);
            control.set_certificates(known.served.clone());
            sender.send_replace(known.facts.clone());
        }
    });
    CertificateBook { have, wanted }
}

/// The certificates, and what may be told of them.
#[derive(Default)]
struct Known {
    served: Certificates,
    facts: Inventory,
}

impl Known {
    fn apply(&mut self, reset: bool, changes: Vec<Change>) {
        if reset {
            let stay: HashSet<&str> = changes.iter().map(|change| change.name.as_str()).collect();
            let gone: Vec<String> = self.facts.keys().filter(|name| !stay.contains(name.as_str())).cloned().collect();
            for name in gone {
                self.remove(&name);
            }
        }
        for Change { name, opened } in changes {
            match opened {
                Some(Ok(Opened { pattern, facts, key })) => {
                    self.served.set(vec![pattern], key);
                    self.facts.insert_mut(name, facts);
                }
                // The one before is served on.
                Some(Err(error)) => tracing::error!(name, error, "a stored certificate can't be used"),
                None => self.remove(&name),
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.facts.remove_mut(name);
        if let Ok(pattern) = name.parse() {
            self.served.remove(&pattern);
        }
    }
}

/// What has become of the certificate for a name; `None`: it is gone.
struct Change {
    name: String,
    opened: Option<Result<Opened, String>>,
}

/// A stored certificate, ready to be served.
struct Opened {
    pattern: HostPattern,
    facts: Facts,
    key: Arc<CertifiedKey>,
}

/// Opens what a batch brings, on all processors if it is much: to read and check a key takes longer than all the rest.
async fn open_all(vault: &Arc<Vault>, batch: Batch) -> Vec<Change> {
    if batch.events.len() < OPENED_ASIDE_MIN {
        return batch.events.into_iter().map(|event| open_event(vault, event)).collect();
    }
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = batch.events.len().div_ceil(threads);
    let mut events = batch.events.into_iter();
    let parts = (0..threads).map(|_| {
        let (vault, part): (_, Vec<Event>) = (vault.clone(), events.by_ref().take(share).collect());
        tokio::task::spawn_blocking(move || part.into_iter().map(|event| open_event(&vault, event)).collect::<Vec<_>>())
    });
    let mut changes = Vec::new();
    for part in parts.collect::<Vec<_>>() {
        match part.await {
            Ok(part) => changes.extend(part),
            Err(error) => tracing::error!(%error, "stored certificates could not be opened"),
        }
    }
    changes
}

/// From so many certificates on they are opened on threads for long work.
const OPENED_ASIDE_MIN: usize = 16;

fn open_event(vault: &Vault, event: Event) -> Change {
    let name = event.key().as_str().strip_prefix(keys::CERTIFICATE_PREFIX).unwrap_or_default().to_owned();
    let opened = match event {
        Event::Put { entry, .. } => Some(open(vault, &name, &entry.value)),
        Event::Delete { .. } => None,
    };
    Change { name, opened }
}

fn open(vault: &Vault, name: &str, record: &[u8]) -> Result<Opened, String> {
    let certificate = vault.open_certificate(name, record)?;
    let key = roo_proxy::certified_key(&certificate.chain_pem, &certificate.key_pem).map_err(|e| e.to_string())?;
    let pattern = name.parse::<HostPattern>().map_err(|error| error.to_string())?;
    Ok(Opened { pattern, facts: certificate.facts(), key })
}
