//! The life of an ACME order as the cluster sees it.
//!
//! ```text
//! new order ─► stored (URL, key) ─► answers published ─► validated ─► request sent ─► chain fetched
//!                 ▲                                                                       │
//!                 └── another node starts here after a crash ──      certificate saved, order removed
//! ```
//!
//! The order is stored before anything else happens to it, so that at most one per name is in flight: whoever
//! comes next asks the CA how far it got and goes on from there, with the same private key. It is removed when
//! the certificate is saved, or when the CA will never complete it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::acme::{Answer, Fault, Order, Session, Stage, StoredAccount};
use crate::authority::AcmeConfig;
use crate::certificate::{Certificate, CertificateError};
use crate::challenge::Challenge;
use crate::desk::Desk;
use crate::failure::{IssueError, with_sources};
use crate::keys;
use crate::record;
use crate::timestamp;
use crate::vault::{Item, Vault, VaultError};

/// What is stored of an order in flight. No `Debug`: it holds the key of the certificate to be.
#[derive(Serialize, Deserialize)]
struct StoredOrder {
    directory: String,
    url: String,
    key_pem: String,
    #[serde(with = "timestamp")]
    created_at: Timestamp,
}

/// An order being worked on.
struct Work {
    order: Order,
    key_pem: String,
}

impl<V: Vault> Desk<V> {
    /// Gets a certificate for `name` from the ACME CA and saves it, going on with a stored order if there is one.
    pub(crate) async fn order(&self, config: &AcmeConfig, name: &str) -> Result<Certificate, IssueError> {
        let result = self.order_inner(config, name).await;
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

    async fn order_inner(&self, config: &AcmeConfig, name: &str) -> Result<Certificate, IssueError> {
        let session = self.session.get_or_try_init(|| self.open(config)).await?;
        let mut work = match self.continued(session, config, name).await? {
            Some(work) => work,
            None => self.started(session, config, name).await?,
        };
        let chain_pem = self.completed(name, &mut work).await?;
        let certificate = Certificate::from_pem(chain_pem, work.key_pem, &config.directory)?;
        if !certificate.covers(name) {
            let (names, wanted) = (certificate.names, name.to_owned());
            return Err(CertificateError::Names { names, wanted }.into());
        }
        self.save(name, &certificate).await?;
        self.discard(order_of(name)).await;
        Ok(certificate)
    }

    /// The cluster's account, registered if there is none yet.
    async fn open(&self, config: &AcmeConfig) -> Result<Session, IssueError> {
        let timeout = self.settings.http_timeout;
        if let Some(session) = self.restored(config).await? {
            return Ok(session);
        }
        let registered = Session::register(config, timeout).await;
        let (session, account) = registered.map_err(IssueError::Account)?;
        if self.vault.create(&account_at(config), record::encode(&account)).await? {
            tracing::info!(directory = config.directory, "registered an ACME account");
            return Ok(session);
        }
        // Another node was first: its account counts, ours is forgotten.
        let gone = || VaultError::unavailable("the ACME account was removed meanwhile").into();
        self.restored(config).await?.ok_or_else(gone)
    }

    async fn restored(&self, config: &AcmeConfig) -> Result<Option<Session>, IssueError> {
        let stored = self.read(account_at(config), record::decode::<StoredAccount>);
        let Some(stored) = stored.await? else {
            return Ok(None);
        };
        let restored = Session::restore(config, self.settings.http_timeout, stored).await;
        restored.map(Some).map_err(IssueError::Account)
    }

    /// The stored order for `name`, if the CA can still complete it.
    async fn continued(&self, session: &Session, config: &AcmeConfig, name: &str) -> Result<Option<Work>, IssueError> {
        let item = order_of(name);
        let stored = self.read(item.clone(), record::decode::<StoredOrder>);
        let Some(stored) = stored.await? else {
            return Ok(None);
        };
        let age = Timestamp::now().duration_since(stored.created_at);
        if stored.directory == config.directory && age < ORDER_AGE_MAX {
            match self.resumed(session, name, &stored.url).await? {
                Some(order) => {
                    let key_pem = stored.key_pem;
                    return Ok(Some(Work { order, key_pem }));
                }
                None => tracing::info!(name, "ordering anew"),
            }
        }
        self.vault.remove(&item, &self.claim).await?;
        Ok(None)
    }

    /// The CA's view of a stored order, if it can still be completed.
    async fn resumed(&self, session: &Session, name: &str, url: &str) -> Result<Option<Order>, IssueError> {
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
            let refusal = IssueError::Acme(order.refusal().await);
            tracing::info!(name, url, %refusal, "the stored order has failed");
            self.remember(name, &refusal).await?;
            return Ok(None);
        }
        tracing::info!(name, url, ?stage, "continuing an order");
        Ok(Some(order))
    }

    /// A new order for `name`, stored.
    async fn started(&self, session: &Session, config: &AcmeConfig, name: &str) -> Result<Work, IssueError> {
        let key_pem = keys::generate()?;
        let order = session.order(name).await?;
        let stored = StoredOrder {
            directory: config.directory.clone(),
            url: order.url().to_owned(),
            key_pem: key_pem.clone(),
            created_at: Timestamp::now(),
        };
        let bytes = record::encode(&stored);
        self.vault.save(&order_of(name), bytes, &self.claim).await?;
        tracing::debug!(name, order = order.url(), "ordered");
        Ok(Work { order, key_pem })
    }

    /// Takes the order to its end; returns the chain.
    async fn completed(&self, name: &str, work: &mut Work) -> Result<String, IssueError> {
        // `schedule` lets no name through for which there is no challenge.
        let kind = Challenge::for_name(name).map_err(|why| Fault::Refused { reason: why.to_string() })?;
        let answers = work.order.answers(kind).await?;
        let result = self.proven_and_signed(name, kind, &answers, work).await;
        self.retract(&answers).await;
        result
    }

    async fn proven_and_signed(
        &self,
        name: &str,
        kind: Challenge,
        answers: &[Answer],
        work: &mut Work,
    ) -> Result<String, IssueError> {
        let timeout = self.settings.order_timeout;
        let order = &mut work.order;
        if order.stage() == Stage::Pending {
            for answer in answers.iter().filter(|answer| answer.awaited) {
                let (token, text) = (&answer.token, &answer.key_authorization);
                self.vault.publish_answer(token, text, &self.claim).await?;
            }
            order.answers_are_published(kind).await?;
            order.validated(timeout).await?;
        }
        if order.stage() == Stage::Ready {
            let request = keys::signing_request(name, &work.key_pem)?;
            order.finalize(&request).await?;
        }
        Ok(order.chain(timeout).await?)
    }

    /// Best effort: whoever finds the record later sees that it is of no use and removes it.
    async fn discard(&self, item: Item) {
        if let Err(error) = self.vault.remove(&item, &self.claim).await {
            let error = with_sources(&error);
            tracing::debug!(%item, error, "a record was left behind");
        }
    }

    /// Best effort: an answer left behind is useless to anybody else and ends by itself.
    async fn retract(&self, answers: &[Answer]) {
        for answer in answers {
            if let Err(error) = self.vault.retract_answer(&answer.token, &self.claim).await {
                let error = with_sources(&error);
                tracing::debug!(error, "an answer was left behind");
            }
        }
    }
}

/// CAs forget pending orders after about a week; what was found valid is good for less.
const ORDER_AGE_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(3 * 24);

fn order_of(name: &str) -> Item {
    let name = name.to_owned();
    Item::Order { name }
}

fn account_at(config: &AcmeConfig) -> Item {
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
        assert_eq!((order.url.as_str(), order.key_pem.as_str()), ("https://ca.example/order/1", "key"));
        assert_eq!(record::encode(&order), stored);
    }
}
