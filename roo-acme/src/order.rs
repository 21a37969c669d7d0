//! The life of an ACME order as the cluster sees it.
//!
//! ```text
//! intent stored ─► new order ─► URL stored ─► answers published ─► validated ─► request sent ─► chain fetched
//!    ▲                             ▲                                                                  │
//!    └── another node starts here, or here, after a crash ──                  certificate saved, order removed
//! ```
//!
//! The order is stored before anything else happens to it, so that at most one per name is in flight: whoever
//! comes next asks the CA how far it got and goes on from there, with the same private key. It is removed when
//! the certificate is saved, or when the CA will never complete it.
//!
//! The intent to order is stored before the CA is asked, see [`crate::intent`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::acme::{Fault, Order, Session, Stage};
use crate::authority::{AcmeConfig, Authority};
use crate::certificate::{Certificate, CertificateError};
use crate::challenge::Challenge;
use crate::desk::Desk;
use crate::dns::DnsRecord;
use crate::failure::{IssueError, with_sources};
use crate::keys::{self, KeyKind};
use crate::record;
use crate::timestamp;
use crate::vault::{Item, Vault, VaultError};

/// What is stored of an order in flight. No `Debug`: it holds the key of the certificate to be.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredOrder {
    directory: String,
    /// `None` = an intent: the CA was asked, or was about to be, and what it answered is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    key_pem: String,
    #[serde(with = "timestamp")]
    created_at: Timestamp,
    /// The claim under which it was intended: [`crate::Claim::fence`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) intended_under: u64,
    /// How the name is proven; http-01 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenge: Option<Challenge>,
    /// The certificate beside which this one is ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<Certificate>,
    /// Records that were, or were about to be, written to the DNS for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<DnsRecord>,
}

/// An order being worked on.
pub(crate) struct Work {
    pub(crate) order: Order,
    stored: StoredOrder,
    /// How the name may be proven, the preferred kind first.
    pub(crate) kinds: Vec<Challenge>,
}

impl<V: Vault> Desk<V> {
    /// Gets a certificate for `name` from the ACME CA and saves it, going on with a stored order if there is one.
    /// A new order says that it replaces `former`.
    pub(crate) async fn order(
        &self,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
    ) -> Result<Certificate, IssueError> {
        let result = self.order_inner(config, name, former).await;
        if let Err(error) = &result {
            if error.ends_order() {
                self.discard(order_of(name)).await;
            }
            if matches!(error, IssueError::Acme(Fault::AccountGone { .. })) {
                tracing::warn!(directory = config.directory, "the ACME account is gone; a new one will be registered");
                self.discard(account_at(config)).await;
            }
        }
        result
    }

    async fn order_inner(
        &self,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
    ) -> Result<Certificate, IssueError> {
        let session = &self.session(config).await?;
        let keys = self.settings.keys;
        let mut work = match self.continued(session, config, name, former).await? {
            Some(work) => work,
            None => self.started(session, config, name, former, (keys.first, None)).await?,
        };
        // At most two rounds: the second order carries what the first one brought.
        let certificate = loop {
            let fetched = self.fetched(config, name, &mut work).await;
            let (first, error) = match (fetched, work.stored.first.take(), keys.second) {
                (Ok(second), Some(first), _) => break first.with_second(second),
                (Ok(only), None, None) => break only,
                (Ok(first), None, Some(kind)) => {
                    self.note_issued(config, name).await?;
                    let former = former.and_then(Certificate::beside);
                    let beside = (kind, Some(first.clone()));
                    match self.started(session, config, name, former.as_ref(), beside).await {
                        Ok(next) => {
                            work = next;
                            continue;
                        }
                        Err(error) => (first, error),
                    }
                }
                (Err(error), Some(first), _) => (first, error),
                (Err(error), None, _) => return Err(error),
            };
            // One is better than none; what may pass is waited for, but not a limit while nothing is served.
            let serves = former.is_some_and(|former| former.not_after > self.settings.clock.now());
            if !error.ends_order() && (serves || !error.is_limit()) {
                return Err(error);
            }
            tracing::warn!(name, %error, "there is no second certificate with another kind of key until the next renewal");
            break first;
        };
        let certificate = self.replace(name, former, certificate).await?;
        self.discard(order_of(name)).await;
        Ok(certificate)
    }

    /// Takes an order at a CA whose certificates nobody wants to its end, and keeps nothing of it.
    pub(crate) async fn tried(&self, config: &AcmeConfig, name: &str) -> Result<(), IssueError> {
        let session = &self.session(config).await?;
        let mut work = match self.continued(session, config, name, None).await? {
            Some(work) => work,
            None => self.started(session, config, name, None, (self.settings.keys.first, None)).await?,
        };
        let fetched = self.fetched(config, name, &mut work).await.map(drop);
        if fetched.as_ref().err().is_none_or(IssueError::ends_order) {
            self.discard(order_of(name)).await;
        }
        fetched
    }

    /// The certificate that an order brings.
    async fn fetched(&self, config: &AcmeConfig, name: &str, work: &mut Work) -> Result<Certificate, IssueError> {
        let chain_pem = self.completed(config, name, work).await?;
        let certificate = Certificate::from_pem(chain_pem, work.stored.key_pem.clone(), &config.directory)?;
        match certificate.covers(name) {
            true => Ok(certificate),
            false => Err(CertificateError::Names { names: certificate.names, wanted: name.to_owned() }.into()),
        }
    }

    /// The stored order for `name`, if the CA can still complete it.
    async fn continued(
        &self,
        session: &Session,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
    ) -> Result<Option<Work>, IssueError> {
        let item = order_of(name);
        let stored = self.read(item.clone(), record::decode::<StoredOrder>);
        let Some(mut stored) = stored.await? else {
            return Ok(None);
        };
        let age = self.settings.clock.now().duration_since(stored.created_at);
        if stored.directory == config.directory && age < ORDER_AGE_MAX {
            let order = match stored.url.clone() {
                Some(url) => self.resumed(session, config, name, &stored, &url).await?,
                None => {
                    let beside = former.and_then(Certificate::beside).filter(|_| stored.first.is_some());
                    let former = if stored.first.is_some() { beside.as_ref() } else { former };
                    Some(self.placed_before(session, config, name, former, &mut stored).await?)
                }
            };
            match order {
                Some(order) => {
                    let failed = self.attempts(name).await?.and_then(|attempts| attempts.challenge);
                    let mut kinds = kinds_of(config, name, failed)?;
                    // One that failed before the CA was asked to look leaves the order open to another.
                    if failed != stored.challenge {
                        kinds.retain(|kind| *kind != stored.challenge());
                        kinds.insert(0, stored.challenge());
                    }
                    return Ok(Some(Work { order, stored, kinds }));
                }
                None => tracing::info!(name, "ordering anew"),
            }
        }
        self.clean_up(config, name, &stored.records).await;
        self.vault.remove(&item, &self.claim).await?;
        Ok(None)
    }

    /// The CA's view of a stored order, if it can still be completed.
    async fn resumed(
        &self,
        session: &Session,
        config: &AcmeConfig,
        name: &str,
        stored: &StoredOrder,
        url: &str,
    ) -> Result<Option<Order>, IssueError> {
        let mut order = match session.resume(url).await {
            Ok(order) => order,
            Err(Fault::OrderGone { reason }) => {
                tracing::info!(name, url, reason, "the stored order is gone");
                return Ok(None);
            }
            Err(fault) => return Err(fault.into()),
        };
        let stage = order.stage();
        if stage == Stage::Invalid {
            // It failed while nobody looked: counted, so that issuers dying one after the other do not run
            // into the CA's limits, but not waited for.
            let another = kinds_of(config, name, None)?.len() > 1;
            let fault = order.refusal().await;
            let refusal = IssueError::Unproven { challenge: stored.challenge(), another, fault };
            tracing::info!(name, url, %refusal, "the stored order has failed");
            self.remember(name, Some(config), &refusal).await?;
            return Ok(None);
        }
        tracing::info!(name, url, ?stage, "continuing an order");
        Ok(Some(order))
    }

    /// A new order for `name` with a key of this kind, stored, and with it the certificate beside which it is ordered.
    async fn started(
        &self,
        session: &Session,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
        (kind, first): (KeyKind, Option<Certificate>),
    ) -> Result<Work, IssueError> {
        let failed = self.attempts(name).await?.and_then(|attempts| attempts.challenge);
        let kinds = kinds_of(config, name, failed)?;
        let mut stored = StoredOrder {
            directory: config.directory.clone(),
            url: None,
            key_pem: keys::generate(kind)?,
            created_at: self.settings.clock.now(),
            intended_under: self.claim.fence,
            challenge: kinds.first().copied(),
            first,
            records: Vec::new(),
        };
        let order = self.placed(session, config, name, former, &mut stored).await?;
        Ok(Work { order, stored, kinds })
    }

    pub(crate) async fn save_order(&self, name: &str, stored: &StoredOrder) -> Result<(), VaultError> {
        self.vault.save(&order_of(name), record::encode(stored), &self.claim).await
    }

    /// Remembers how the name is proven, for whoever continues the order.
    pub(crate) async fn note_challenge(&self, name: &str, work: &mut Work, kind: Challenge) -> Result<(), IssueError> {
        if work.stored.challenge() != kind {
            work.stored.challenge = Some(kind);
            self.save_order(name, &work.stored).await?;
        }
        Ok(())
    }

    /// Takes the order to its end; returns the chain.
    async fn completed(&self, config: &AcmeConfig, name: &str, work: &mut Work) -> Result<String, IssueError> {
        self.prove(config, name, work).await?;
        if work.order.stage() == Stage::Ready {
            let request = keys::signing_request(name, &work.stored.key_pem)?;
            work.order.finalize(&request).await?;
        }
        Ok(work.order.chain(self.settings.order_timeout).await?)
    }

    /// Remembers what is about to be written to the DNS, for whoever has to take it back.
    pub(crate) async fn note_records(
        &self,
        name: &str,
        work: &mut Work,
        records: &[DnsRecord],
    ) -> Result<(), IssueError> {
        let known = work.stored.records.len();
        for record in records {
            if !work.stored.records.contains(record) {
                work.stored.records.push(record.clone());
            }
        }
        if work.stored.records.len() > known {
            self.save_order(name, &work.stored).await?;
        }
        Ok(())
    }

    /// Takes back what an order that nobody will finish has left in the DNS.
    pub(crate) async fn take_records_back(&self, name: &str) -> Result<(), IssueError> {
        if let Authority::Acme(cas) = self.authority.for_name(name)
            && let Some(stored) = self.read(order_of(name), record::decode::<StoredOrder>).await?
        {
            self.clean_up(cas.first(), name, &stored.records).await;
        }
        Ok(())
    }

    /// At which CA there is an order for `name` that was counted against its limits and still counts: one that was intended
    /// long ago and perhaps never made is made anew.
    pub(crate) async fn counted_at(&self, name: &str) -> Result<Option<String>, IssueError> {
        let stored = self.read(order_of(name), record::decode::<StoredOrder>).await?;
        let now = self.settings.clock.now();
        let counts = |stored: &StoredOrder| {
            let age = now.duration_since(stored.created_at);
            age < if stored.url.is_some() { ORDER_AGE_MAX } else { INTENT_COUNTS }
        };
        Ok(stored.filter(counts).map(|stored| stored.directory))
    }

    /// At which CA there is an order for `name`.
    pub(crate) async fn ordered_at(&self, name: &str) -> Result<Option<String>, IssueError> {
        let stored = self.read(order_of(name), record::decode::<StoredOrder>).await?;
        Ok(stored.map(|stored| stored.directory))
    }

    /// Best effort: whoever finds the record later sees that it is of no use and removes it.
    async fn discard(&self, item: Item) {
        if let Err(error) = self.vault.remove(&item, &self.claim).await {
            let error = with_sources(&error);
            tracing::debug!(%item, error, "a record was left behind");
        }
    }
}

impl Work {
    /// What may be in the DNS for it.
    pub(crate) fn records(&self) -> &[DnsRecord] {
        &self.stored.records
    }
}

impl StoredOrder {
    fn challenge(&self) -> Challenge {
        self.challenge.unwrap_or(Challenge::Http01)
    }
}

/// `schedule` lets no name through for which there is no challenge.
fn kinds_of(config: &AcmeConfig, name: &str, failed: Option<Challenge>) -> Result<Vec<Challenge>, Fault> {
    config.challenges.for_name(name, failed).map_err(|why| Fault::Refused { reason: why.to_string() })
}

/// CAs forget pending orders after about a week; what was found valid is good for less.
const ORDER_AGE_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(3 * 24);

/// What was counted for an intent comes back at the CA while it waits.
const INTENT_COUNTS: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn order_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Order { name }
}

pub(crate) fn account_at(config: &AcmeConfig) -> Item {
    let directory = config.directory.clone();
    Item::Account { directory }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"directory\":\"https://ca.example/dir\",\"url\":\"https://ca.example/order/1\",\
            \"key_pem\":\"key\",\"created_at\":\"2026-01-02T03:04:05Z\"}";
        let order: StoredOrder = record::decode(stored).unwrap();
        assert_eq!((order.url.as_deref(), order.key_pem.as_str()), (Some("https://ca.example/order/1"), "key"));
        assert_eq!(record::encode(&order), stored);
        assert_eq!((order.challenge(), order.records), (Challenge::Http01, Vec::new()));
    }
}
