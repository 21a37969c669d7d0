//! The cluster's account at each CA: registered once, with the contact and the key that are wanted.
//!
//! ```text
//! next key stored beside the present one ─► CA asked to take it ─► next key stored as the present one
//!                                     ▲
//!        whoever finds a next key starts here, and asks first which of the two the CA knows
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::acme::{Fault, Session, StoredAccount};
use crate::authority::{AcmeConfig, Authority};
use crate::desk::Desk;
use crate::failure::{IssueError, with_sources};
use crate::issuer::{CLAIM, keep_until_lost};
use crate::keys::{self, KeyKind};
use crate::order::account_at;
use crate::record;
use crate::settings::Settings;
use crate::vault::{Vault, VaultError};

/// Gives the cluster's accounts at all CAs other keys (RFC 8555 section 7.3.5); returns their URLs. Waits for the claim to
/// issue for a while. If the future is dropped, or the node dies, whoever uses an account next ends what was begun.
pub async fn roll_over<V: Vault>(
    vault: &Arc<V>,
    authority: &Authority,
    settings: &Settings,
) -> Result<Vec<String>, RollOverError> {
    let Authority::Acme(cas) = authority else { return Ok(Vec::new()) };
    let deadline = Instant::now() + CLAIM_WAIT;
    let (claimed_at, claim) = loop {
        let asked_at = Instant::now();
        match vault.claim(CLAIM, settings.claim_ttl).await? {
            Some(claim) => break (asked_at, claim),
            None if Instant::now() > deadline => return Err(RollOverError::Busy),
            None => sleep(CLAIM_PAUSE).await,
        }
    };
    let desk = Desk::new(vault.clone(), authority.clone(), settings.clone(), claim.clone());
    let work = async {
        let (mut changed, mut failed) = (Vec::new(), None);
        for config in cas.iter() {
            let at = |error: IssueError| RollOverError::Ca {
                directory: config.directory.clone(),
                reason: with_sources(&error),
            };
            // Boxed, since futures within futures of it are too deep for the compiler.
            match Box::pin(desk.roll_over(config)).await.map_err(at) {
                Ok(url) => changed.extend(url),
                // One that can't does not keep the others from it.
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(changed), Err)
    };
    let kept = pin!(keep_until_lost(vault.as_ref(), &claim, claimed_at, settings.claim_ttl));
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = kept => Err(VaultError::ClaimLost { what: CLAIM.to_owned() }.into()),
    };
    // If this fails it runs out by itself.
    let _ = vault.release(claim.clone()).await;
    outcome
}

/// Why not all accounts have other keys.
#[derive(Debug, thiserror::Error)]
pub enum RollOverError {
    /// Another node issues, and goes on to.
    #[error("certificates are being issued; try again when that is done")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The CA failed, or said no.
    #[error("the key of the account at {directory} was not changed: {reason}")]
    Ca {
        /// Which CA.
        directory: String,
        /// Why.
        reason: String,
    },
}

impl<V: Vault> Desk<V> {
    /// The cluster's account there, opened once under one claim.
    pub(crate) async fn session(&self, config: &AcmeConfig) -> Result<Arc<Session>, IssueError> {
        let cell = self.sessions.at(config);
        cell.get_or_try_init(async || self.open(config).await.map(Arc::new)).await.cloned()
    }

    /// The cluster's account, registered if there is none yet.
    async fn open(&self, config: &AcmeConfig) -> Result<Session, IssueError> {
        if let Some(session) = self.restored(config).await? {
            return Ok(session);
        }
        let registered = Session::register(config, &self.settings).await;
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
        let Some(mut stored) = self.stored_account(config).await? else { return Ok(None) };
        if let Some(fault) = self.end_key_change(config, &mut stored).await? {
            tracing::warn!(directory = config.directory, %fault, "the ACME account keeps its key");
        }
        let session = Session::restore(config, &self.settings, &stored).await.map_err(IssueError::Account)?;
        if !stored.has_contact_of(config) {
            self.tell_contact(config, &session, stored).await?;
        }
        Ok(Some(session))
    }

    async fn stored_account(&self, config: &AcmeConfig) -> Result<Option<StoredAccount>, IssueError> {
        self.read(account_at(config), record::decode::<StoredAccount>).await
    }

    async fn save_account(&self, config: &AcmeConfig, stored: &StoredAccount) -> Result<(), VaultError> {
        self.vault.save(&account_at(config), record::encode(stored), &self.claim).await
    }

    /// Certificates are issued although the CA does not take the contact.
    async fn tell_contact(
        &self,
        config: &AcmeConfig,
        session: &Session,
        mut stored: StoredAccount,
    ) -> Result<(), IssueError> {
        match session.tell_contact(config).await {
            Ok(told) => {
                tracing::info!(directory = config.directory, contact = told, "the CA knows the contact");
                stored.contact = Some(told);
                self.save_account(config, &stored).await?;
            }
            Err(fault) => tracing::warn!(directory = config.directory, %fault, "the CA was not told the contact"),
        }
        Ok(())
    }

    /// Changes the key of the account at this CA, if there is one; gives its URL.
    async fn roll_over(&self, config: &AcmeConfig) -> Result<Option<String>, IssueError> {
        let Some(mut stored) = self.stored_account(config).await? else { return Ok(None) };
        if stored.next_key_pem.is_none() {
            stored.next_key_pem = Some(keys::generate(KeyKind::P256)?);
            self.save_account(config, &stored).await?;
        }
        match self.end_key_change(config, &mut stored).await? {
            None => Ok(Some(stored.url)),
            Some(fault) => Err(IssueError::Account(fault)),
        }
    }

    /// Ends a change of the account's key that was begun. A CA that says no leaves the account as it was: that is the fault
    /// returned.
    async fn end_key_change(
        &self,
        config: &AcmeConfig,
        stored: &mut StoredAccount,
    ) -> Result<Option<Fault>, IssueError> {
        let Some(next) = stored.next_key_pem.clone() else { return Ok(None) };
        let refusal = match Session::change_key(config, &self.settings, stored, &next).await {
            Ok(()) => None,
            Err(fault @ (Fault::Refused { .. } | Fault::AccountGone { .. })) => Some(fault),
            // Which key it knows is not known.
            Err(fault) => return Err(IssueError::Account(fault)),
        };
        if refusal.is_none() {
            stored.key_pem = next;
            tracing::info!(directory = config.directory, "the ACME account has another key");
        }
        stored.next_key_pem = None;
        self.save_account(config, stored).await?;
        Ok(refusal)
    }
}

/// How long to wait for the claim, and how long between two tries.
const CLAIM_WAIT: Duration = Duration::from_secs(20);
const CLAIM_PAUSE: Duration = Duration::from_millis(100);
