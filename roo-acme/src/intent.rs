//! Between asking the CA for an order and knowing its URL.
//!
//! An issuer may die after the CA has made an order and before its URL is stored. So that the next one does not just order
//! again, it is stored first that an order is about to be made ([`StoredOrder`] without a URL). Whoever finds such an intent
//! looks for the order:
//!
//! - Where the CA lists the account's orders (RFC 8555 section 7.1.2.1), one for the same name that can still be completed is
//!   taken from the list. If there is none, none was made, and it is made now.
//! - Where it does not, it is asked for a new order again. Let's Encrypt, whose software Boulder has no such list
//!   (`docs/acme-divergences.md` there), answers with the very order that it made before, as long as that is pending or
//!   ready, if account, names and profile are the same (`docs/acme-implementation_details.md`, "Object Reuse"): that is no
//!   second order, and it does not count against the limits.
//! - A CA that does neither makes a second order. Nothing that could be waited for would tell whether there is a first: RFC
//!   8555 has no way to ask. A first one that nobody completes brings no certificate, so it counts against no limit on
//!   certificates, and it ends by itself after some days. Waiting for that would leave the name without a certificate.
//!
//! What was sent by an issuer that died may still be on its way when the next one looks. The claim of a dead issuer runs on
//! for longer than that takes; one that is stopped finishes what it has begun with the CA before it gives the claim back
//! ([`Desk::settled`]).

use std::time::Duration;

use tokio::sync::RwLockWriteGuard;

use crate::acme::{Fault, Order, Session, Stage};
use crate::authority::AcmeConfig;
use crate::certificate::Certificate;
use crate::desk::Desk;
use crate::failure::IssueError;
use crate::order::StoredOrder;
use crate::vault::Vault;

impl<V: Vault> Desk<V> {
    /// Has the CA make an order for `name`, and stores what is known of it before and after.
    pub(crate) async fn placed(
        &self,
        session: &Session,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
        stored: &mut StoredOrder,
    ) -> Result<Order, IssueError> {
        if let Some(profile) = &config.profile {
            session.check_profile(profile)?;
        }
        self.save_order(name, stored).await?;
        self.ordered(session, config, name, former, stored).await
    }

    /// The order that an intent was stored for: the one that was made, or else another.
    pub(crate) async fn placed_before(
        &self,
        session: &Session,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
        stored: &mut StoredOrder,
    ) -> Result<Order, IssueError> {
        let Some(order) = self.found(session, config, name).await? else {
            tracing::info!(name, intended_under = stored.intended_under, "no order was made for what was intended");
            return self.ordered(session, config, name, former, stored).await;
        };
        tracing::info!(name, intended_under = stored.intended_under, url = order.url(), "an order was made before");
        stored.url = Some(order.url().to_owned());
        self.save_order(name, stored).await?;
        Ok(order)
    }

    async fn ordered(
        &self,
        session: &Session,
        config: &AcmeConfig,
        name: &str,
        former: Option<&Certificate>,
        stored: &mut StoredOrder,
    ) -> Result<Order, IssueError> {
        let _unsettled = self.unsettled.read().await;
        let former = former.filter(|former| former.authority == config.directory);
        let order = session.order(name, config.profile.as_deref(), former).await?;
        stored.url = Some(order.url().to_owned());
        self.save_order(name, stored).await?;
        tracing::debug!(name, order = order.url(), "ordered");
        Ok(order)
    }

    /// The order for `name` in the account's list that can still be completed.
    async fn found(&self, session: &Session, config: &AcmeConfig, name: &str) -> Result<Option<Order>, IssueError> {
        let Some(urls) = session.listed().await? else { return Ok(None) };
        // Several jobs may look for their orders: each is asked for once.
        let mut seen = self.listed.lock().await;
        // What was made last is at the end with all CAs we know.
        for url in urls.iter().rev().take(GLANCES_MAX) {
            if !seen.contains_key(url) {
                match session.glance(url).await {
                    Ok(listed) => drop(seen.insert(url.clone(), listed)),
                    Err(Fault::Refused { .. }) => continue,
                    Err(fault) => return Err(fault.into()),
                }
            }
            if !seen.get(url).is_some_and(|listed| listed.is_for(name, config.profile.as_deref())) {
                continue;
            }
            let mut order = match session.resume(url).await {
                Ok(order) => order,
                Err(Fault::OrderGone { .. }) => continue,
                Err(fault) => return Err(fault.into()),
            };
            if matches!(order.stage(), Stage::Pending | Stage::Ready) {
                return Ok(Some(order));
            }
        }
        Ok(None)
    }

    /// Waits until what was begun with the CA is known to the store, or for a while. As long as the guard lives, nothing
    /// is begun.
    pub(crate) async fn settled(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        tokio::time::timeout(SETTLED_MAX, self.unsettled.write()).await.ok()
    }
}

/// Orders of the list that are looked at.
const GLANCES_MAX: usize = 50;

/// How long a stopping issuer waits for the CA's answer to what it has begun.
const SETTLED_MAX: Duration = Duration::from_secs(5);
