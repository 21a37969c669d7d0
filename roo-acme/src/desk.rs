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
use crate::wish::Wish;

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

/// The claim is lost; nothing more may be written.
#[derive(Debug)]
pub(crate) struct ClaimLost;

impl<V: Vault> Desk<V> {
    /// Brings `name` up to date. May be dropped at any await: the order is stored and will be continued.
    pub(crate) async fn work(&self, name: &str) -> Outcome {
        let result = match self.checked_and_issued(name).await {
            // Learning of a failure needs the store too.
            Err(error) => self.fail(name, &error).await,
            Ok(outcome) => Ok(outcome),
        };
        result.unwrap_or(Outcome::ClaimLost)
    }

    async fn checked_and_issued(&self, name: &str) -> Result<Outcome, IssueError> {
        let attempts = self.attempts(name).await?;
        let certificate = self.certificate(name).await?;
        let wish = self.read(wish_of(name), Wish::decode).await?;
        let facts = certificate.as_ref().map(Certificate::facts);
        let now = Timestamp::now();
        let need = schedule::need(now, &self.authority, name, facts.as_ref(), attempts.as_ref(), wish.as_ref());
        let Need::Now(urgency) = need else {
            return self.leave(name, facts, attempts).await;
        };
        if let Some(revocation) = wish.as_ref().and_then(|wish| wish.revoke) {
            let facts = self.revoke(name, certificate, revocation).await?;
            return Ok(Outcome::Current { facts, attempts });
        }
        tracing::info!(name, ?urgency, "getting a certificate");
        let timeout = self.settings.order_timeout;
        let issued = tokio::time::timeout(timeout, self.issue(name)).await;
        let facts = issued.unwrap_or(Err(IssueError::TooSlow { timeout }))?.facts();
        metrics::counter!("roo_acme_orders_total", "result" => "issued").increment(1);
        tracing::info!(name, serial = facts.serial, not_after = %facts.not_after, "certificate issued");
        // It is served, but ordering it over and over would be ours to answer for.
        if schedule::renew_at(name, &facts) <= now {
            return Err(IssueError::BornOld);
        }
        if attempts.is_some() || self.attempts(name).await?.is_some() {
            self.vault.remove(&attempts_of(name), &self.claim).await?;
        }
        if wish.is_some() {
            self.vault.remove(&wish_of(name), &self.claim).await?;
        }
        Ok(Outcome::Issued { facts })
    }

    /// There is nothing to do; failures that a good certificate has made past are forgotten.
    async fn leave(
        &self,
        name: &str,
        facts: Option<Facts>,
        mut attempts: Option<Attempts>,
    ) -> Result<Outcome, IssueError> {
        let otherwise = schedule::need(Timestamp::now(), &self.authority, name, facts.as_ref(), None, None);
        if attempts.is_some() && !matches!(otherwise, Need::Now(_)) {
            self.vault.remove(&attempts_of(name), &self.claim).await?;
            attempts = None;
        }
        Ok(Outcome::Current { facts, attempts })
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

    /// Remembers a failure and says when to try again.
    async fn fail(&self, name: &str, error: &IssueError) -> Result<Outcome, ClaimLost> {
        if error.is_claim_lost() {
            return Err(ClaimLost);
        }
        let attempts = self.remember(name, error).await?;
        let (failures, next_at) = (attempts.failures, attempts.next_at);
        tracing::warn!(name, error = attempts.last_error, failures, %next_at, "no certificate yet");
        let pause = error.concerns_all_names();
        Ok(Outcome::Failed { attempts, pause })
    }

    /// Counts and stores a failure of `name`; if the store cannot, this node alone remembers it.
    pub(crate) async fn remember(&self, name: &str, error: &IssueError) -> Result<Attempts, ClaimLost> {
        let failure = error.failure();
        metrics::counter!("roo_acme_orders_total", "result" => failure.kind.label()).increment(1);
        let earlier = self.attempts(name).await.unwrap_or_default();
        let attempts = Attempts::after(earlier.as_ref(), &failure, Timestamp::now(), fastrand::f64());
        match self.vault.save(&attempts_of(name), attempts.encode(), &self.claim).await {
            Ok(()) => {}
            Err(VaultError::ClaimLost { .. }) => return Err(ClaimLost),
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(name, error, "a failure could not be stored");
            }
        }
        Ok(attempts)
    }

    pub(crate) async fn attempts(&self, name: &str) -> Result<Option<Attempts>, IssueError> {
        self.read(attempts_of(name), Attempts::decode).await
    }

    async fn certificate(&self, name: &str) -> Result<Option<Certificate>, IssueError> {
        self.read(certificate_of(name), Certificate::decode).await
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

fn certificate_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Certificate { name }
}

pub(crate) fn wish_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Wish { name }
}

fn attempts_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Attempts { name }
}
