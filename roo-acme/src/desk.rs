//! Where the holder of the claim works: check again, order, save, clean up.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::acme::Session;
use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::{Certificate, Facts};
use crate::failure::{IssueError, with_sources};
use crate::internal::InternalCa;
use crate::record::RecordError;
use crate::schedule::{self, Need};
use crate::settings::Settings;
use crate::vault::{Claim, Item, Vault, VaultError};

/// What the jobs under one claim share.
pub(crate) struct Desk<V> {
    pub(crate) vault: Arc<V>,
    pub(crate) authority: Authority,
    pub(crate) settings: Settings,
    pub(crate) claim: Claim,
    /// The ACME account in use, opened by the first job that needs it.
    pub(crate) session: OnceCell<Session>,
}

/// What became of a job for one name.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There was nothing to do after all; this is how things stand in the store.
    Current { facts: Option<Facts>, attempts: Option<Attempts> },
    /// A new certificate is in the store.
    Issued { facts: Facts },
    /// It failed; `pause` = other names would fail as well now.
    Failed { attempts: Attempts, pause: bool },
    /// The claim is lost; nothing more may be written.
    ClaimLost,
}

impl<V: Vault> Desk<V> {
    /// Brings `name` up to date. May be dropped at any await: the order is stored and will be continued.
    pub(crate) async fn work(&self, name: &str) -> Outcome {
        let mut attempts = None;
        match self.work_inner(name, &mut attempts).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_claim_lost() => Outcome::ClaimLost,
            Err(error) => self.fail(name, attempts.as_ref(), &error).await,
        }
    }

    async fn work_inner(&self, name: &str, attempts: &mut Option<Attempts>) -> Result<Outcome, IssueError> {
        *attempts = self.attempts(name).await?;
        let facts = self.facts(name).await?;
        let now = Timestamp::now();
        let need = schedule::need(now, &self.authority, name, facts.as_ref(), attempts.as_ref());
        let Need::Now(urgency) = need else {
            let attempts = attempts.take();
            return Ok(Outcome::Current { facts, attempts });
        };
        tracing::info!(name, ?urgency, "getting a certificate");
        let timeout = self.settings.order_timeout;
        let certificate =
            tokio::time::timeout(timeout, self.issue(name)).await.unwrap_or(Err(IssueError::TooSlow { timeout }))?;
        self.succeed(name, &certificate, attempts.as_ref()).await
    }

    /// A new certificate, saved.
    async fn issue(&self, name: &str) -> Result<Certificate, IssueError> {
        match &self.authority {
            Authority::Acme(config) => self.order(config, name).await,
            Authority::Internal => {
                let ca = InternalCa::open(self.vault.as_ref()).await?;
                let certificate = ca.issue(name, Timestamp::now())?;
                self.save(name, &certificate).await?;
                Ok(certificate)
            }
            Authority::Off => unreachable!("nothing is due when the authority is off"),
        }
    }

    pub(crate) async fn save(&self, name: &str, certificate: &Certificate) -> Result<(), VaultError> {
        let item = certificate_of(name);
        self.vault.save(&item, certificate.encode(), &self.claim).await
    }

    async fn succeed(
        &self,
        name: &str,
        certificate: &Certificate,
        attempts: Option<&Attempts>,
    ) -> Result<Outcome, IssueError> {
        let facts = certificate.facts();
        metrics::counter!("roo_acme_orders_total", "result" => "issued").increment(1);
        tracing::info!(name, serial = facts.serial, not_after = %facts.not_after, "certificate issued");
        // It is served, but ordering it over and over would be ours to answer for.
        if schedule::renew_at(name, &facts) <= Timestamp::now() {
            return Err(IssueError::BornOld);
        }
        if attempts.is_some() {
            self.vault.remove(&attempts_of(name), &self.claim).await?;
        }
        Ok(Outcome::Issued { facts })
    }

    async fn fail(&self, name: &str, earlier: Option<&Attempts>, error: &IssueError) -> Outcome {
        let failure = error.failure();
        let now = Timestamp::now();
        let attempts = Attempts::after(earlier, &failure, now, fastrand::f64());
        metrics::counter!("roo_acme_orders_total", "result" => result_label(&attempts, earlier)).increment(1);
        tracing::warn!(
            name,
            error = failure.error,
            failures = attempts.failures,
            next_at = %attempts.next_at,
            "no certificate yet"
        );
        let saved = self.vault.save(&attempts_of(name), attempts.encode(), &self.claim).await;
        match saved {
            Err(VaultError::ClaimLost { .. }) => return Outcome::ClaimLost,
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(name, error, "the failure is remembered by this node only");
            }
            Ok(()) => {}
        }
        let pause = error.concerns_all_names();
        Outcome::Failed { attempts, pause }
    }

    async fn attempts(&self, name: &str) -> Result<Option<Attempts>, IssueError> {
        self.read(attempts_of(name), Attempts::decode).await
    }

    async fn facts(&self, name: &str) -> Result<Option<Facts>, IssueError> {
        let certificate = self.read(certificate_of(name), Certificate::decode).await?;
        Ok(certificate.map(|certificate| certificate.facts()))
    }

    pub(crate) async fn read<T>(
        &self,
        item: Item,
        decode: impl Fn(&[u8]) -> Result<T, RecordError>,
    ) -> Result<Option<T>, IssueError> {
        match self.vault.load(&item).await? {
            Some(bytes) => decode(&bytes).map(Some).map_err(|source| IssueError::Record { item, source }),
            None => Ok(None),
        }
    }
}

fn result_label(attempts: &Attempts, earlier: Option<&Attempts>) -> &'static str {
    let refusals = earlier.map_or(0, |earlier| earlier.refusals);
    match attempts.refusals > refusals {
        true => "refused",
        false => "unreachable",
    }
}

fn certificate_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Certificate { name }
}

fn attempts_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Attempts { name }
}
