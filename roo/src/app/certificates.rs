//! Certificates: from the store to the proxy.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;

use roo_acme::{Facts, Inventory, Names, Wishes};
use roo_kv::{Batch, Event, Store};
use roo_proxy::{Certificates, Control, HostPattern};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::{CertificateBook, Vault};
use crate::keys;

/// Keeps the proxy's certificates as the store has them. Ends when the store does.
pub(super) fn publish(
    store: &Store,
    vault: Arc<Vault>,
    control: Control,
    wanted: watch::Receiver<Names>,
    wishes: watch::Receiver<Wishes>,
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
    CertificateBook::new(have, wanted, wishes)
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
                Some(Ok(Opened { pattern, facts, key, second })) => {
                    // One that was revoked is served until another takes its place, if there is to be another.
                    match facts.revoked.is_none_or(|revoked| revoked.renew) {
                        true => self.served.set_both(vec![pattern], key, second),
                        false => self.served.remove(&pattern),
                    }
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
    second: Option<Arc<CertifiedKey>>,
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
    let certified = |chain: &str, key: &str| roo_proxy::certified_key(chain, key).map_err(|error| error.to_string());
    let key = certified(&certificate.chain_pem, &certificate.key_pem)?;
    let second = certificate.second.as_ref().map(|pair| certified(&pair.chain_pem, &pair.key_pem)).transpose()?;
    let pattern = name.parse::<HostPattern>().map_err(|error| error.to_string())?;
    Ok(Opened { pattern, facts: certificate.facts(), key, second })
}
