//! Our account at the CA: one per directory for the whole cluster.

use std::time::Duration;

use instant_acme::{Account, Error, Identifier, NewAccount, NewOrder, RevocationReason, RevocationRequest};
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::http::Https;
use super::order::Order;
use crate::authority::AcmeConfig;
use crate::wish::Reason;

/// An account ready for use.
pub(crate) struct Session {
    account: Account,
}

/// What is stored of an account. No `Debug`: it holds the key.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredAccount {
    /// The account's URL, its name at the CA (RFC 8555 section 7.3).
    url: String,
    /// The account's key, PKCS#8 PEM.
    key_pem: String,
}

impl Session {
    /// Registers a new account (ES256 key) and agrees to the CA's terms, as using `--acme-directory` implies.
    pub(crate) async fn register(config: &AcmeConfig, timeout: Duration) -> Result<(Self, StoredAccount), Fault> {
        let http = Box::new(Https::new(config, timeout)?);
        let contact = config.email.as_ref().map(|email| format!("mailto:{}", email.trim()));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let request = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) =
            Account::builder_with_http(http).create(&request, config.directory.clone(), None).await?;
        let key = KeyPair::try_from(credentials.private_key()).map_err(|_| BAD_KEY)?;
        let stored = StoredAccount { url: account.id().to_owned(), key_pem: key.serialize_pem() };
        Ok((Self { account }, stored))
    }

    /// Uses a stored account; asks the CA for its directory only.
    pub(crate) async fn restore(config: &AcmeConfig, timeout: Duration, stored: StoredAccount) -> Result<Self, Fault> {
        let http = Box::new(Https::new(config, timeout)?);
        let key = PrivatePkcs8KeyDer::from_pem_slice(stored.key_pem.as_bytes());
        let account = Account::builder_with_http(http)
            .from_parts(stored.url, key.map_err(|_| BAD_KEY)?, config.directory.clone())
            .await?;
        Ok(Self { account })
    }

    /// A new order for `name` (RFC 8555 section 7.4).
    pub(crate) async fn order(&self, name: &str) -> Result<Order, Fault> {
        let identifiers = [Identifier::Dns(name.to_owned())];
        let order = self.account.new_order(&NewOrder::new(&identifiers)).await?;
        Ok(Order::new(order))
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

fn code_of(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
    }
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
