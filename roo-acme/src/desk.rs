//! Where the holder of the claim works: check again, order, save, clean up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use tokio::sync::{Mutex, RwLock};

use crate::acme::{Fault, Listed};
use crate::attempts::Attempts;
use crate::authority::{AcmeConfig, Authority};
use crate::backoff::Backoff;
use crate::books::Books;
use crate::certificate::{Certificate, Facts, Managed};
use crate::choice::{Choice, Held, Seeker, choose};
use crate::failure::{IssueError, with_sources};
use crate::internal::InternalCa;
use crate::prober::Prober;
use crate::record::{self, RecordError};
use crate::renewal::{self, Renewal};
use crate::schedule::{self, Need, Urgency};
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::vault::{Claim, Item, Vault, VaultError};
use crate::wish::Wish;

/// What the jobs under one claim share.
pub(crate) struct Desk<V> {
    pub(crate) vault: Arc<V>,
    pub(crate) authority: Authority,
    pub(crate) settings: Settings,
    pub(crate) claim: Claim,
    pub(crate) sessions: Sessions,
    pub(crate) books: Books,
    /// What the orders in the accounts' lists are for, by URL.
    pub(crate) listed: Mutex<BTreeMap<String, Listed>>,
    /// Read by jobs while the CA makes an order that the store does not know yet.
    pub(crate) unsettled: RwLock<()>,
    pub(crate) prober: Prober,
}

/// What became of a job for one name.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There was nothing to do after all; this is how things stand in the store.
    Current { facts: Option<Facts>, attempts: Option<Attempts>, renewal: Option<Renewal> },
    /// A new certificate is in the store.
    Issued { facts: Facts },
    /// It failed; other names would fail as well before `pause_until`.
    Failed { attempts: Attempts, pause_until: Option<Timestamp> },
    /// It waits, and maybe others with it.
    Held(Held),
    /// Nobody wants the name; what is kept of it stays until it is looked at again.
    Unused { look_at: Timestamp },
    /// Nothing is kept of the name any more.
    Retired,
    /// The claim is lost; nothing more may be written.
    ClaimLost,
}

/// The claim is lost; nothing more may be written.
#[derive(Debug)]
pub(crate) struct ClaimLost;

impl<V: Vault> Desk<V> {
    /// An empty one.
    pub(crate) fn new(vault: Arc<V>, authority: Authority, settings: Settings, claim: Claim) -> Self {
        Self {
            vault,
            authority,
            settings,
            claim,
            sessions: Sessions::default(),
            books: Books::default(),
            listed: Mutex::default(),
            unsettled: RwLock::default(),
            prober: Prober::default(),
        }
    }

    /// Brings `name` up to date. May be dropped at any await: the order is stored and will be continued.
    pub(crate) async fn work(&self, name: &str) -> Outcome {
        let result = match self.checked_and_issued(name).await {
            // Learning of a failure needs the store too.
            Err(error) => self.fail(name, None, &error).await,
            Ok(outcome) => Ok(outcome),
        };
        result.unwrap_or(Outcome::ClaimLost)
    }

    async fn checked_and_issued(&self, name: &str) -> Result<Outcome, IssueError> {
        self.unmark(name).await?;
        let attempts = self.attempts(name).await?;
        let certificate = self.certificate(name).await?;
        let wish = self.read(wish_of(name), Wish::decode).await?;
        let facts = certificate.as_ref().map(Certificate::facts);
        let renewal = match &certificate {
            Some(certificate) => self.renewal(name, certificate).await?,
            None => None,
        };
        let now = self.settings.clock.now();
        let (known, asked) = (facts.as_ref(), wish.as_ref());
        let need = schedule::need(now, &self.authority, name, known, attempts.as_ref(), asked, renewal.as_ref());
        let Need::Now(urgency) = need else {
            return self.leave(name, facts, attempts, wish, renewal).await;
        };
        if let Some(wish) = wish.as_ref().filter(|wish| wish.revoke.is_some()) {
            let facts = self.revoke(name, certificate, wish).await?;
            if attempts.is_some() {
                self.vault.remove(&attempts_of(name), &self.claim).await?;
            }
            return Ok(Outcome::Current { facts, attempts: None, renewal });
        }
        // What failed before somebody asked for another try does not hold it back.
        let lately = attempts.as_ref().filter(|attempts| asked.is_none_or(|wish| attempts.last_at >= wish.at));
        let ca = match self.authority.for_name(name) {
            Authority::Acme(cas) => match self.reserved(cas, name, known, renewal.as_ref(), lately).await? {
                Choice::Ask(config, purpose) => Some((config, purpose)),
                Choice::Wait(held) => return Ok(Outcome::Held(held)),
            },
            Authority::Internal | Authority::Off => None,
        };
        tracing::info!(name, ?urgency, "getting a certificate");
        if facts.is_none() && attempts.is_none() {
            self.look_at(name);
        }
        let timeout = self.settings.order_timeout;
        let issuing = async {
            if let Some((config, _)) = ca {
                self.rehearse(config, name, lately).await?;
            }
            self.issue(name, ca.map(|(config, _)| config), certificate.as_ref()).await
        };
        let issued = tokio::time::timeout(timeout, issuing).await;
        let new = match issued.unwrap_or(Err(IssueError::TooSlow { timeout })) {
            Ok(new) => new.facts(),
            Err(error) => {
                if let Some((config, purpose)) = ca {
                    self.note_fruitless(config, name, purpose, &error).await?;
                }
                return Ok(self.fail(name, ca.map(|(config, _)| config), &error).await?);
            }
        };
        if let Some((config, _)) = ca {
            self.note_well(config).await?;
            self.note_issued(config, name).await?;
        }
        if new.managed == Managed::Import {
            if let Some(wish) = &wish {
                self.end_wish(name, wish).await?;
            }
            return self.leave(name, Some(new), attempts, None, None).await;
        }
        metrics::counter!("roo_acme_orders_total", "result" => "issued").increment(1);
        tracing::info!(name, serial = new.serial, not_after = %new.not_after, "certificate issued");
        // It is served, but ordering it over and over would be ours to answer for.
        if renewal::renew_at(name, &new, None) <= now {
            return Err(IssueError::BornOld);
        }
        let is_renewal = matches!(urgency, Urgency::Renewal { .. });
        if is_renewal && known.is_some_and(|former| renewal::is_hasty(name, former, now)) {
            return Err(IssueError::Hasty);
        }
        if attempts.is_some() || self.attempts(name).await?.is_some() {
            self.vault.remove(&attempts_of(name), &self.claim).await?;
        }
        if let Some(wish) = &wish {
            self.end_wish(name, wish).await?;
        }
        Ok(Outcome::Issued { facts: new })
    }

    /// Removes a wish that was fulfilled, or never can be. What was asked for meanwhile stays.
    pub(crate) async fn end_wish(&self, name: &str, wish: &Wish) -> Result<(), IssueError> {
        let item = wish_of(name);
        let (bytes, version) = self.vault.look(&item).await?;
        let present = bytes.map(|bytes| Wish::decode(&bytes)).transpose();
        let present = present.map_err(|source| IssueError::Record { item: item.clone(), source })?;
        if present.as_ref() == Some(wish) {
            // If it is not removed, another one has taken its place.
            self.vault.swap(&item, None, version, &self.claim).await?;
        }
        Ok(())
    }

    /// There is nothing to do now; failures are forgotten when there would be nothing to do without them either.
    async fn leave(
        &self,
        name: &str,
        facts: Option<Facts>,
        mut attempts: Option<Attempts>,
        wish: Option<Wish>,
        renewal: Option<Renewal>,
    ) -> Result<Outcome, IssueError> {
        let now = self.settings.clock.now();
        let (known, asked) = (facts.as_ref(), wish.as_ref());
        let otherwise = schedule::need(now, &self.authority, name, known, None, asked, renewal.as_ref());
        // Why a revocation was refused is told until another certificate has come, or another wish.
        let forgets = attempts.as_ref().is_some_and(|attempts| !attempts.revocation);
        if forgets && !matches!(otherwise, Need::Now(_)) {
            self.vault.remove(&attempts_of(name), &self.claim).await?;
            attempts = None;
        }
        Ok(Outcome::Current { facts, attempts, renewal })
    }

    /// When the CA would like `certificate` to be renewed; asks it if that is due or not known.
    async fn renewal(&self, name: &str, certificate: &Certificate) -> Result<Option<Renewal>, IssueError> {
        let (now, facts) = (self.settings.clock.now(), certificate.facts());
        let Some(config) = self.authority.acme(&facts.authority).filter(|_| facts.not_after > now) else {
            return Ok(None);
        };
        let known = self.read(renewal_of(name), Renewal::decode).await?;
        let known = known.filter(|known| known.serial == facts.serial);
        if known.as_ref().is_some_and(|known| known.ask_at > now) {
            return Ok(known);
        }
        let asked = match self.session(config).await {
            Ok(session) => session.renewal(certificate).await.map_err(IssueError::from),
            Err(error) => Err(error),
        };
        match asked {
            Ok(Some((window, retry_after))) => {
                let renewal = Renewal::answered(&facts, window, retry_after, now);
                self.vault.save(&renewal_of(name), renewal.encode(), &self.claim).await?;
                tracing::debug!(name, start = %window.start, end = %window.end, "asked when to renew");
                Ok(Some(renewal))
            }
            Ok(None) => Ok(Some(Renewal::unsupported(&facts, now))),
            Err(IssueError::Acme(Fault::Silent)) => {
                self.note_silent(config).await?;
                Ok(Some(Renewal::unsupported(&facts, now)))
            }
            Err(error) if error.is_claim_lost() => Err(error),
            Err(error) => {
                tracing::debug!(name, %error, "the CA does not say when to renew");
                Ok(Some(Renewal::unanswered(&facts, known.and_then(|known| known.window), now)))
            }
        }
    }

    /// A new certificate in place of `former`, saved; or the one that somebody brought in meanwhile.
    /// Roo's own CA signs where no other one is named.
    async fn issue(
        &self,
        name: &str,
        ca: Option<&AcmeConfig>,
        former: Option<&Certificate>,
    ) -> Result<Certificate, IssueError> {
        if let Some(config) = ca {
            return self.order(config, name, former).await;
        }
        let now = self.settings.clock.now();
        let certificate = self.internal_ca(now).await?.issue_with(name, now, self.settings.keys)?;
        self.replace(name, former, certificate).await
    }

    /// The internal CA, with an intermediate that outlives what it signs.
    async fn internal_ca(&self, now: Timestamp) -> Result<InternalCa, IssueError> {
        let ca = InternalCa::open(self.vault.as_ref(), now).await?;
        let Some(changed) = ca.with_fresh_intermediate(now)? else { return Ok(ca) };
        self.vault.save(&Item::InternalCa, record::encode(&changed), &self.claim).await?;
        tracing::info!("the internal CA has another intermediate");
        Ok(changed)
    }

    /// Saves `certificate` in place of `former`, unless somebody brought one in meanwhile; returns the one that counts.
    pub(crate) async fn replace(
        &self,
        name: &str,
        former: Option<&Certificate>,
        certificate: Certificate,
    ) -> Result<Certificate, IssueError> {
        let item = certificate_of(name);
        loop {
            let (bytes, version) = self.vault.look(&item).await?;
            let present = bytes.map(|bytes| Certificate::decode(&bytes)).transpose();
            let present = present.map_err(|source| IssueError::Record { item: item.clone(), source })?;
            let brought = present.filter(|present| present.managed == Managed::Import);
            if let Some(brought) = brought.filter(|brought| former.is_none_or(|former| former.serial != brought.serial))
            {
                tracing::info!(name, serial = brought.serial, "a certificate was brought in meanwhile; it stays");
                return Ok(brought);
            }
            // Bounded by people's patience: it goes round again only if somebody has written in between.
            if self.vault.swap(&item, Some(certificate.encode()), version, &self.claim).await? {
                return Ok(certificate);
            }
        }
    }

    /// Remembers a failure, at a CA if it was one's, and says when to try again.
    async fn fail(&self, name: &str, ca: Option<&AcmeConfig>, error: &IssueError) -> Result<Outcome, ClaimLost> {
        if error.is_claim_lost() {
            return Err(ClaimLost);
        }
        let attempts = self.remember(name, ca, error).await?;
        self.look_at(name);
        let (failures, next_at) = (attempts.failures, attempts.next_at);
        tracing::warn!(name, error = attempts.last_error, failures, %next_at, "no certificate yet");
        let now = self.settings.clock.now();
        let pause_until = match self.authority.for_name(name) {
            _ if error.is_of_store() => now.saturating_add(Backoff::UNREACHABLE.delay(1, fastrand::f64())).ok(),
            Authority::Acme(cas) if error.concerns_all_names() => self.books.all_paused_until(cas, now),
            _ => None,
        };
        Ok(Outcome::Failed { attempts, pause_until })
    }

    /// Counts and stores a failure of `name`; if the store cannot, this node alone remembers it.
    pub(crate) async fn remember(
        &self,
        name: &str,
        ca: Option<&AcmeConfig>,
        error: &IssueError,
    ) -> Result<Attempts, ClaimLost> {
        let now = self.settings.clock.now();
        let cas = match self.authority.for_name(name) {
            Authority::Acme(cas) if cas.is_choice() => Some(cas),
            _ => None,
        };
        if let (Some(config), IssueError::Unproven { .. }) = (ca, error) {
            self.note_unproven(config, name).await?;
        }
        let mut failure = error.failure(now);
        if let (Some(config), Some(_)) = (ca, cas) {
            failure.error = format!("{}: {}", config.directory, failure.error);
            failure.ca = error.is_of_ca().then(|| config.directory.clone());
        }
        metrics::counter!("roo_acme_orders_total", "result" => failure.kind.label()).increment(1);
        let earlier = self.attempts(name).await.unwrap_or_default();
        let certificate = self.certificate(name).await.unwrap_or_default();
        let left = certificate.and_then(|found| Duration::try_from(found.not_after.duration_since(now)).ok());
        let left = left.filter(|left| !left.is_zero());
        let mut attempts = Attempts::after(earlier.as_ref(), &failure, now, fastrand::f64(), left);
        if let Some(config) = ca.filter(|_| error.concerns_all_names()) {
            self.note_trouble(config, now, attempts.next_at).await?;
        }
        if let (Some(cas), Some(at)) = (cas, &failure.ca) {
            let spent = self.spent(name).await.unwrap_or_default();
            let seeker =
                Seeker { name, facts: None, renewal: None, attempts: Some(&attempts), spent: &spent, begun: None };
            attempts.next_at = match choose(cas, &seeker, &self.books.ledgers(), now) {
                Choice::Ask(other, _) if other.directory != *at => now,
                Choice::Ask(..) => attempts.next_at,
                Choice::Wait(held) => attempts.next_at.min(held.until),
            };
        }
        // By the clock of the node that was asked, which may be ahead of ours.
        let wish = self.read(wish_of(name), Wish::decode).await.unwrap_or_default();
        attempts.last_at = wish.map_or(now, |wish| wish.at.max(now));
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

    pub(crate) async fn certificate(&self, name: &str) -> Result<Option<Certificate>, IssueError> {
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

fn wish_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Wish { name }
}

fn renewal_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Renewal { name }
}

fn attempts_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Attempts { name }
}
