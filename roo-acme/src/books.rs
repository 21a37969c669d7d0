//! The ledgers under one claim: read once, kept in memory, written before anything follows from them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::authority::{AcmeConfig, Authority};
use crate::cas::Cas;
use crate::choice::{Choice, choose};
use crate::desk::{ClaimLost, Desk};
use crate::failure::{IssueError, with_sources};
use crate::ledger::{Ledger, Ledgers};
use crate::vault::{Item, Vault, VaultError};
use crate::wish::Wish;

/// What is known of all CAs. Only the holder of the claim changes it.
#[derive(Default)]
pub(crate) struct Books {
    ledgers: Mutex<Ledgers>,
    /// Whoever writes one waits for whoever writes one now, so that the newest is written last.
    writing: tokio::sync::Mutex<()>,
}

impl Books {
    pub(crate) fn ledgers(&self) -> MutexGuard<'_, Ledgers> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when none of the CAs is to be bothered, if there is such a time.
    pub(crate) fn all_paused_until(&self, cas: &Cas, now: Timestamp) -> Option<Timestamp> {
        let ledgers = self.ledgers();
        let until = |config: &AcmeConfig| ledgers.get(&config.directory).map_or(now, |ledger| ledger.paused_until);
        cas.iter().map(until).min().filter(|until| *until > now)
    }
}

impl<V: Vault> Desk<V> {
    /// Reads the ledgers of all CAs.
    pub(crate) async fn open_books(&self) -> Result<(), IssueError> {
        let Authority::Acme(cas) = &self.authority else { return Ok(()) };
        for config in cas.iter() {
            let ledger = self.read(ledger_of(config), Ledger::decode).await?.unwrap_or_default();
            self.books.ledgers().insert(config.directory.clone(), ledger);
        }
        Ok(())
    }

    /// The CA to ask for `name`.
    pub(crate) async fn choice<'a>(
        &self,
        cas: &'a Cas,
        name: &str,
        attempts: Option<&Attempts>,
        wish: Option<&Wish>,
    ) -> Result<Choice<'a>, IssueError> {
        let begun = if cas.is_choice() { self.ordered_at(name).await? } else { None };
        // What failed before somebody asked for another try does not hold it back.
        let attempts = attempts.filter(|attempts| wish.is_none_or(|wish| attempts.last_at >= wish.at));
        let now = self.settings.clock.now();
        Ok(choose(cas, name, attempts, &self.books.ledgers(), begun.as_deref(), now))
    }

    /// Takes note that the CA fails whatever is asked; nobody waits longer than `latest` for that.
    pub(crate) async fn note_trouble(
        &self,
        config: &AcmeConfig,
        now: Timestamp,
        latest: Timestamp,
    ) -> Result<(), ClaimLost> {
        self.books.ledgers().entry(config.directory.clone()).or_default().failed(now, latest, fastrand::f64());
        self.write_ledger(config).await
    }

    /// Takes note that the CA does its work.
    pub(crate) async fn note_well(&self, config: &AcmeConfig) -> Result<(), ClaimLost> {
        let news = self.books.ledgers().get_mut(&config.directory).is_some_and(Ledger::answered);
        if news { self.write_ledger(config).await } else { Ok(()) }
    }

    /// Stores the ledger; if the store cannot, this node alone goes by it.
    async fn write_ledger(&self, config: &AcmeConfig) -> Result<(), ClaimLost> {
        let _turn = self.books.writing.lock().await;
        let bytes = self.books.ledgers().get(&config.directory).cloned().unwrap_or_default().encode();
        match self.vault.save(&ledger_of(config), bytes, &self.claim).await {
            Ok(()) => Ok(()),
            Err(VaultError::ClaimLost { .. }) => Err(ClaimLost),
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(directory = config.directory, error, "how the CA fares could not be stored");
                Ok(())
            }
        }
    }
}

fn ledger_of(config: &AcmeConfig) -> Item {
    let directory = config.directory.clone();
    Item::Ledger { directory }
}
