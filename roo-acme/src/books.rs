//! The ledgers under one claim: read once, kept in memory, written before anything follows from them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::acme::Fault;
use crate::attempts::Attempts;
use crate::authority::{AcmeConfig, Authority};
use crate::cas::Cas;
use crate::certificate::Facts;
use crate::choice::{Choice, Seeker, choose};
use crate::desk::{ClaimLost, Desk};
use crate::failure::{IssueError, with_sources};
use crate::ledger::{Ledger, Ledgers, Purpose, Spent, SpentBy};
use crate::record;
use crate::renewal::Renewal;
use crate::vault::{Item, Vault, VaultError};

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
            let mut ledger = match self.read(ledger_of(config), Ledger::decode).await {
                Ok(stored) => stored.unwrap_or_default(),
                // What it said is lost; the CA says itself when it is asked too much.
                Err(error @ IssueError::Record { .. }) => {
                    tracing::error!(
                        directory = config.directory,
                        error = with_sources(&error),
                        "its limits are counted anew"
                    );
                    Ledger::default()
                }
                Err(error) => return Err(error),
            };
            ledger.correct(&config.limits, self.settings.clock.now());
            self.books.ledgers().insert(config.directory.clone(), ledger);
        }
        Ok(())
    }

    /// The CA to ask for `name`. The order is counted, and that is stored, before anybody is asked.
    pub(crate) async fn reserved<'a>(
        &self,
        cas: &'a Cas,
        name: &str,
        facts: Option<&Facts>,
        renewal: Option<&Renewal>,
        attempts: Option<&Attempts>,
    ) -> Result<Choice<'a>, IssueError> {
        let begun = self.counted_at(name).await?;
        let spent = self.spent(name).await?;
        let seeker = Seeker { name, facts, renewal, attempts, spent: &spent, begun: begun.as_deref() };
        let now = self.settings.clock.now();
        let (choice, counted) = {
            let mut ledgers = self.books.ledgers();
            let choice = choose(cas, &seeker, &ledgers, now);
            let counted = match &choice {
                Choice::Ask(config, purpose) if begun.as_deref() != Some(config.directory.as_str()) => {
                    let ledger = ledgers.entry(config.directory.clone()).or_default();
                    ledger.order(&config.limits, name, *purpose, now).then_some(*config)
                }
                _ => None,
            };
            (choice, counted)
        };
        if let Some(config) = counted {
            self.write_ledger(config).await?;
        }
        Ok(choice)
    }

    /// Gives back what was counted for an order that failed with `error`, as far as the CA does not count it.
    pub(crate) async fn note_fruitless(
        &self,
        config: &AcmeConfig,
        name: &str,
        purpose: Purpose,
        error: &IssueError,
    ) -> Result<(), ClaimLost> {
        let made = !matches!(
            error,
            IssueError::Account(_)
                | IssueError::Rehearsal { .. }
                | IssueError::Acme(Fault::Profile { .. } | Fault::Setup(_))
        );
        // What goes on may still bring a certificate.
        if purpose != Purpose::New || (made && !error.ends_order()) {
            return Ok(());
        }
        let ledger = |ledgers: &mut Ledgers| {
            ledgers.entry(config.directory.clone()).or_default().fruitless(&config.limits, name, made)
        };
        let changed = ledger(&mut self.books.ledgers());
        if changed { self.write_ledger(config).await } else { Ok(()) }
    }

    /// Counts a certificate of exactly this name.
    pub(crate) async fn note_issued(&self, config: &AcmeConfig, name: &str) -> Result<(), IssueError> {
        let Some(limit) = config.limits.exact else { return Ok(()) };
        let now = self.settings.clock.now();
        self.spend(config, name, |spent| spent.exact = limit.spent(spent.exact, now)).await
    }

    /// Counts a failed validation of the name.
    pub(crate) async fn note_unproven(&self, config: &AcmeConfig, name: &str) -> Result<(), ClaimLost> {
        let Some(limit) = config.limits.failures else { return Ok(()) };
        let now = self.settings.clock.now();
        match self.spend(config, name, |spent| spent.failures = limit.spent(spent.failures, now)).await {
            Err(error) if error.is_claim_lost() => Err(ClaimLost),
            // The back-off of the name keeps below the limit as well.
            _ => Ok(()),
        }
    }

    async fn spend(&self, config: &AcmeConfig, name: &str, change: impl FnOnce(&mut Spent)) -> Result<(), IssueError> {
        let mut spent = self.spent(name).await?;
        let now = self.settings.clock.now();
        change(spent.entry(config.directory.clone()).or_default());
        spent.retain(|_, spent| spent.exact.max(spent.failures) > now);
        Ok(self.vault.save(&spent_of(name), record::encode(&spent), &self.claim).await?)
    }

    /// What the name has spent of the limits of CAs.
    pub(crate) async fn spent(&self, name: &str) -> Result<SpentBy, IssueError> {
        let mut spent: SpentBy = self.read(spent_of(name), record::decode).await?.unwrap_or_default();
        correct(&mut spent, &self.authority, self.settings.clock.now());
        Ok(spent)
    }

    /// Tells the metrics what is left.
    fn show_budget(&self, config: &AcmeConfig) {
        let now = self.settings.clock.now();
        for (limit, left) in
            self.books.ledgers().entry(config.directory.clone()).or_default().remaining(&config.limits, now)
        {
            let gauge =
                metrics::gauge!("roo_acme_budget_remaining", "ca" => config.directory.clone(), "limit" => limit);
            gauge.set(f64::from(left));
        }
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

    /// Takes note that the CA does not tell when to renew.
    pub(crate) async fn note_silent(&self, config: &AcmeConfig) -> Result<(), ClaimLost> {
        let now = self.settings.clock.now();
        let news = {
            let mut ledgers = self.books.ledgers();
            let ledger = ledgers.entry(config.directory.clone()).or_default();
            let news = ledger.silent_until <= now;
            if news {
                ledger.silent_until = now.saturating_add(SILENT_FOR).unwrap_or(Timestamp::MAX);
            }
            news
        };
        if news { self.write_ledger(config).await } else { Ok(()) }
    }

    /// CAs that do not tell when to renew, and until when they are not asked.
    pub(crate) fn silent(&self) -> BTreeMap<String, Timestamp> {
        let now = self.settings.clock.now();
        let silent = |ledger: &Ledger| Some(ledger.silent_until).filter(|until| *until > now);
        let ledgers = self.books.ledgers();
        ledgers.iter().filter_map(|(directory, ledger)| Some((directory.clone(), silent(ledger)?))).collect()
    }

    /// Takes note that the CA does its work.
    pub(crate) async fn note_well(&self, config: &AcmeConfig) -> Result<(), ClaimLost> {
        let news = self.books.ledgers().get_mut(&config.directory).is_some_and(Ledger::answered);
        if news { self.write_ledger(config).await } else { Ok(()) }
    }

    /// Stores the ledger; if the store cannot, this node alone goes by it.
    async fn write_ledger(&self, config: &AcmeConfig) -> Result<(), ClaimLost> {
        self.show_budget(config);
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

/// How long a CA that does not tell when to renew is not asked again, for any certificate.
const SILENT_FOR: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// Takes back what a clock that was ahead has counted.
pub(crate) fn correct(spent: &mut SpentBy, authority: &Authority, now: Timestamp) {
    for (directory, spent) in spent {
        if let Some(config) = authority.acme(directory) {
            spent.correct(&config.limits, now);
        }
    }
}

fn spent_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Spent { name }
}

fn ledger_of(config: &AcmeConfig) -> Item {
    let directory = config.directory.clone();
    Item::Ledger { directory }
}
