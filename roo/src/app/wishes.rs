//! What people ask for a certificate: written by the API, followed by the issuer of every node.

use std::sync::Arc;

use roo_acme::{Revocation, Wish, Wishes};
use roo_kv::{Event, Key, PutOptions, SealError, Store};
use tokio::sync::watch;

use super::Vault;
use crate::keys;

/// Why a wish can't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WishError {
    #[error("it can't be sealed: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] roo_kv::Error),
}

/// Asks for another certificate for `name`, or for its revocation. It stands until it is fulfilled, or asked anew.
pub(crate) async fn ask(
    store: &Store,
    vault: &Vault,
    name: &str,
    revoke: Option<Revocation>,
) -> Result<Wish, WishError> {
    let wish = Wish { at: jiff::Timestamp::now(), revoke };
    let key = keys::wish(name);
    let sealed = vault.seal(&key, &wish.encode())?;
    store.put(key, sealed, PutOptions::default()).await?;
    Ok(wish)
}

/// The wishes as the store has them, until it ends.
pub(super) fn follow(store: &Store, vault: Arc<Vault>) -> watch::Receiver<Wishes> {
    let (sender, wishes) = watch::channel(Wishes::default());
    let mut changes = store.watch(keys::WISH_PREFIX);
    tokio::spawn(async move {
        let mut all = Wishes::default();
        while let Ok(batch) = changes.next_all().await {
            if batch.reset {
                all = Wishes::default();
            }
            for event in batch.events {
                let name = event.key().as_str().strip_prefix(keys::WISH_PREFIX).unwrap_or_default().to_owned();
                all.remove_mut(&name);
                if let Event::Put { key, entry, .. } = event {
                    match open(&vault, &key, &entry.value) {
                        Ok(wish) => all.insert_mut(name, wish),
                        Err(error) => tracing::error!(name, error, "a wish for a certificate can't be read"),
                    }
                }
            }
            sender.send_replace(all.clone());
        }
    });
    wishes
}

fn open(vault: &Vault, key: &Key, record: &[u8]) -> Result<Wish, String> {
    let plain = vault.open(key, record).map_err(|error| error.to_string())?;
    Wish::decode(&plain).map_err(|error| error.to_string())
}
