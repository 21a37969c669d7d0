//! Our account at the CA: one per directory for the whole cluster.

use std::time::Duration;

use instant_acme::{
    Account, CertificateIdentifier, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder, Problem,
    RevocationReason, RevocationRequest,
};
use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Key};
use super::fault::Fault;
use super::http::Https;
use super::order::{Listed, Order};
use crate::authority::{AcmeConfig, AuthorityError};
use crate::certificate::Certificate;
use crate::renewal::Window;
use crate::settings::Settings;
use crate::wish::Reason;

/// An account ready for use.
pub(crate) struct Session {
    account: Account,
    caller: Caller,
}

/// What is stored of an account. No `Debug`: it holds the key.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredAccount {
    /// The account's URL, its name at the CA (RFC 8555 section 7.3).
    pub(crate) url: String,
    /// The account's key, PKCS#8 PEM.
    pub(crate) key_pem: String,
    /// The key that is taking its place; which of the two the CA knows must be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_key_pem: Option<String>,
    /// The contact that the CA was told last, empty = none; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact: Option<String>,
}

impl Session {
    /// Registers a new account (ES256 key) and agrees to the CA's terms, as using `--acme-directory` implies. It is
    /// bound to the external account, if one is configured.
    pub(crate) async fn register(config: &AcmeConfig, settings: &Settings) -> Result<(Self, StoredAccount), Fault> {
        let http = Https::new(config, settings)?;
        let contact = contact_of(config);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let request = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = config.external_account.as_ref();
        let external = external.map(|account| ExternalAccountKey::new(account.key_id.clone(), &account.hmac));
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let created = builder.create(&request, config.directory.clone(), external.as_ref()).await;
        let (account, credentials) = created.map_err(|error| match error {
            Error::Api(problem) if external.is_none() && wants_external_account(&problem) => {
                AuthorityError::ExternalAccount { url: config.directory.clone() }.into()
            }
            error => Fault::from(error),
        })?;
        let key = KeyPair::try_from(credentials.private_key()).map_err(|_| BAD_KEY)?;
        let stored = StoredAccount {
            url: account.id().to_owned(),
            key_pem: key.serialize_pem(),
            next_key_pem: None,
            contact: Some(contact.concat()),
        };
        let caller = Caller::new(http, &config.directory, &stored.url, Key::new(credentials.private_key())?);
        Ok((Self { account, caller }, stored))
    }

    /// Uses a stored account; asks the CA for its directory only.
    pub(crate) async fn restore(
        config: &AcmeConfig,
        settings: &Settings,
        stored: &StoredAccount,
    ) -> Result<Self, Fault> {
        let http = Https::new(config, settings)?;
        let key = key_of(&stored.key_pem)?;
        let caller = Caller::new(http.clone(), &config.directory, &stored.url, Key::new(&key)?);
        let builder = Account::builder_with_http(Box::new(http));
        let account = builder.from_parts(stored.url.clone(), key, config.directory.clone()).await?;
        Ok(Self { account, caller })
    }

    /// Has the CA take the account's next key (RFC 8555 section 7.3.5), unless it has taken it before. After
    /// [`Fault::Refused`] and [`Fault::AccountGone`] it surely does not know the next one.
    pub(crate) async fn change_key(
        config: &AcmeConfig,
        settings: &Settings,
        stored: &StoredAccount,
        next_pem: &str,
    ) -> Result<(), Fault> {
        let (key, next) = (Key::new(&key_of(&stored.key_pem)?)?, Key::new(&key_of(next_pem)?)?);
        let caller = Caller::new(Https::new(config, settings)?, &config.directory, &stored.url, key);
        if caller.knows(&next).await? {
            return Ok(());
        }
        let Err(fault) = caller.change_key(&next).await else { return Ok(()) };
        // Not every CA that can't do it says so in a way that is known to mean no: what counts is which key it knows.
        if !caller.knows(&next).await? && caller.knows_its_own().await? {
            return Err(Fault::Refused { reason: fault.to_string() });
        }
        Err(fault)
    }

    /// Tells the CA whom to write to (RFC 8555 section 7.3.2), and gives what was told.
    pub(crate) async fn tell_contact(&self, config: &AcmeConfig) -> Result<String, Fault> {
        let contact = contact_of(config);
        let told: Vec<&str> = contact.iter().map(String::as_str).collect();
        self.account.update_contacts(&told).await?;
        Ok(contact.unwrap_or_default())
    }

    /// A new order for `name` (RFC 8555 section 7.4), in place of the certificate `replaced` if the CA can know that
    /// (RFC 9773 section 5).
    pub(crate) async fn order(
        &self,
        name: &str,
        profile: Option<&str>,
        replaced: Option<&Certificate>,
    ) -> Result<Order, Fault> {
        let identifiers = [Identifier::Dns(name.to_owned())];
        let mut request = NewOrder::new(&identifiers);
        if let Some(profile) = profile {
            request = request.profile(profile);
        }
        let leaf = replaced.and_then(leaf_of);
        if let Some(id) = leaf.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok()) {
            let mut replacing = NewOrder::new(&identifiers).replaces(id);
            if let Some(profile) = profile {
                replacing = replacing.profile(profile);
            }
            match self.account.new_order(&replacing).await {
                Ok(order) => return Ok(Order::new(order)),
                Err(error) if concerns_replacing(&error) => {
                    tracing::debug!(name, %error, "ordering without naming the certificate before");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Order::new(self.account.new_order(&request).await?))
    }

    /// Whether the CA has the profile `wanted`; [`Fault::Profile`] if not.
    pub(crate) fn check_profile(&self, wanted: &str) -> Result<(), Fault> {
        let mut offered: Vec<&str> = self.account.profiles().map(|profile| profile.name).collect();
        if offered.contains(&wanted) {
            return Ok(());
        }
        offered.sort_unstable();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        Err(Fault::Profile { wanted: wanted.to_owned(), offered })
    }

    /// When the CA would like `certificate` to be renewed and how long not to ask again (RFC 9773 section 4);
    /// `None` if the certificate has no id there, [`Fault::Silent`] if the CA gives no such advice.
    pub(crate) async fn renewal(&self, certificate: &Certificate) -> Result<Option<(Window, Duration)>, Fault> {
        let leaf = leaf_of(certificate);
        let Some(id) = leaf.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok()) else {
            return Ok(None);
        };
        match self.account.renewal_info(&id).await {
            Ok((info, retry_after)) => {
                let at = |time: i64| Timestamp::from_second(time).unwrap_or(Timestamp::MAX);
                let (start, end) = (info.suggested_window.start, info.suggested_window.end);
                let (start, end) = (at(start.unix_timestamp()), at(end.unix_timestamp()));
                Ok(Some((Window { start, end: end.max(start) }, retry_after)))
            }
            Err(Error::Unsupported(_)) => Err(Fault::Silent),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the CA revoke the certificate (RFC 8555 section 7.6). One that was revoked before is no error.
    pub(crate) async fn revoke(&self, certificate: &CertificateDer<'_>, reason: Reason) -> Result<(), Fault> {
        let request = RevocationRequest { certificate, reason: Some(code_of(reason)) };
        match self.account.revoke(&request).await {
            Err(Error::Api(problem)) if problem.r#type.as_deref().is_some_and(|t| t.ends_with(":alreadyRevoked")) => {
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// The URLs of our orders; `None` if the CA keeps no list of them. Several exchanges.
    pub(crate) async fn listed(&self) -> Result<Option<Vec<String>>, Fault> {
        self.caller.orders().await
    }

    /// What the order at `url` is for; [`Fault::Refused`] if the CA shows it no more.
    pub(crate) async fn glance(&self, url: &str) -> Result<Listed, Fault> {
        self.caller.look(url).await
    }

    /// The order at `url`; [`Fault::OrderGone`] if the CA does not know it.
    pub(crate) async fn resume(&self, url: &str) -> Result<Order, Fault> {
        match self.account.order(url.to_owned()).await.map_err(Fault::from) {
            Ok(order) => Ok(Order::new(order)),
            // An order of another account, a URL of another server, or forgotten: in each case not ours to use.
            Err(Fault::Refused { reason }) => Err(Fault::OrderGone { reason }),
            Err(fault) => Err(fault),
        }
    }
}

impl StoredAccount {
    /// Whether the CA is known to have been told the contact that is configured.
    pub(crate) fn has_contact_of(&self, config: &AcmeConfig) -> bool {
        self.contact == Some(contact_of(config).unwrap_or_default())
    }
}

fn contact_of(config: &AcmeConfig) -> Option<String> {
    config.email.as_ref().map(|email| format!("mailto:{}", email.trim()))
}

fn key_of(pem: &str) -> Result<PrivatePkcs8KeyDer<'static>, Fault> {
    Ok(PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| BAD_KEY)?)
}

fn code_of(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
    }
}

fn leaf_of(certificate: &Certificate) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(certificate.chain_pem.as_bytes()).ok()
}

/// Whether the order may well succeed if it does not say what it replaces: the CA gives no advice on renewals, or
/// does not know the certificate, or knows of another order that replaces it (RFC 9773 section 5).
fn concerns_replacing(error: &Error) -> bool {
    match error {
        Error::Unsupported(_) => true,
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or_default();
            let detail = problem.detail.as_deref().unwrap_or_default();
            kind.ends_with(":alreadyReplaced") || kind.ends_with(":malformed") || detail.contains("replace")
        }
        other => other.to_string().contains("replaces"),
    }
}

/// Whether the CA takes accounts of those only who are known to it (RFC 8555 section 7.3.4).
fn wants_external_account(problem: &Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":externalAccountRequired"))
}

const BAD_KEY: instant_acme::Error = instant_acme::Error::KeyRejected;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record;

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"url\":\"https://ca.example/account/1\",\"key_pem\":\"key\"}";
        let account: StoredAccount = record::decode(stored).unwrap();
        assert_eq!(account.url, "https://ca.example/account/1");
        assert_eq!(record::encode(&account), stored);
    }
}
