//! Looks at names beside their orders: a few at once, one after the other for each, and none that would have to wait.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::authority::Authority;
use crate::desk::Desk;
use crate::failure::with_sources;
use crate::probe::{self, Probe, SelfCheck};
use crate::vault::{Answer, Claim, Item, Vault};

/// What the probes under one claim share.
#[derive(Default)]
pub(crate) struct Prober {
    /// The names being looked at.
    busy: Arc<Mutex<BTreeSet<String>>>,
    /// What any node answers, published by the first probe that needs it; it ends with the claim.
    check: Arc<OnceCell<SelfCheck>>,
}

impl<V: Vault> Desk<V> {
    /// Begins to look at `name`, unless too many are looked at; what is found is stored. Never waits, never fails.
    pub(crate) fn look_at(&self, name: &str) {
        let Authority::Acme(cas) = self.authority.for_name(name) else { return };
        let Some(probe) = cas.challenges().probe().cloned() else { return };
        let Some(place) = Place::take(&self.prober.busy, name) else { return };
        let (vault, claim, check) = (self.vault.clone(), self.claim.clone(), self.prober.check.clone());
        let (config, name, now) = (cas.first().clone(), name.to_owned(), self.settings.clock.now());
        tokio::spawn(async move {
            let check = check.get_or_try_init(|| published(vault.as_ref(), &claim)).await.ok();
            let found = probe::look(&config, &probe, &name, check, now).await;
            if let Err(error) = kept(vault.as_ref(), &claim, &name, &found).await {
                tracing::debug!(name, error = with_sources(&error), "what was found about a name is not stored");
            }
            drop(place);
        });
    }
}

/// Stores what was found; nothing, if there was nothing and is nothing.
async fn kept<V: Vault>(vault: &V, claim: &Claim, name: &str, found: &Probe) -> Result<(), crate::vault::VaultError> {
    let item = Item::Probe { name: name.to_owned() };
    if !found.findings.is_empty() {
        tracing::warn!(name, findings = ?found.findings, "this may keep the name from getting a certificate");
        return vault.save(&item, found.encode(), claim).await;
    }
    match vault.load(&item).await? {
        Some(_) => vault.remove(&item, claim).await,
        None => Ok(()),
    }
}

async fn published<V: Vault>(vault: &V, claim: &Claim) -> Result<SelfCheck, crate::vault::VaultError> {
    let random = |count: usize| -> String { (0..count).map(|_| fastrand::alphanumeric()).collect() };
    let check = SelfCheck { token: format!("roo-probe-{}", random(16)), text: random(32) };
    let answer = Answer::Http { token: check.token.clone(), key_authorization: check.text.clone() };
    vault.publish_answer(&answer, claim).await?;
    Ok(check)
}

/// A name's place among those being looked at, free again when dropped.
struct Place {
    busy: Arc<Mutex<BTreeSet<String>>>,
    name: String,
}

impl Place {
    fn take(busy: &Arc<Mutex<BTreeSet<String>>>, name: &str) -> Option<Self> {
        let mut names = busy.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= PROBES_MAX || !names.insert(name.to_owned()) {
            return None;
        }
        Some(Self { busy: busy.clone(), name: name.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// At the same time.
const PROBES_MAX: usize = 8;
