//! acme-dns: a server for the texts of challenges alone, by its HTTP API (`POST /register`, `POST /update`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::DnsError;
use crate::web::Web;

/// An acme-dns server, and the accounts that a person brought along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeDns {
    /// Its address, without a path's last slash: `https://auth.shop.example`.
    pub url: String,
    /// By name, without `*.`. For other names Roo registers one.
    pub accounts: BTreeMap<String, AcmeDnsAccount>,
}

/// An account as the API hands it out: it may change the texts of one name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeDnsAccount {
    username: String,
    password: String,
    /// What `_acme-challenge` must be an alias of.
    pub(crate) fulldomain: String,
    subdomain: String,
}

/// Tells everything but the password.
impl fmt::Debug for AcmeDnsAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcmeDnsAccount({} at {})", self.username, self.fulldomain)
    }
}

impl AcmeDns {
    /// The accounts in a file: a JSON object of name → what `/register` had answered.
    ///
    /// # Errors
    /// A sentence that names the place in the text, without its values.
    pub fn read_accounts(text: &str) -> Result<BTreeMap<String, AcmeDnsAccount>, String> {
        let accounts: BTreeMap<String, AcmeDnsAccount> = serde_json::from_str(text).map_err(|error| {
            format!(
                "line {} is no JSON object of name → account (username, password, fulldomain, subdomain)",
                error.line()
            )
        })?;
        let normal = |name: String| name.trim_start_matches("*.").trim_end_matches('.').to_ascii_lowercase();
        Ok(accounts.into_iter().map(|(name, account)| (normal(name), account)).collect())
    }

    /// The account in the file for `name`.
    pub(crate) fn account(&self, name: &str) -> Option<&AcmeDnsAccount> {
        self.accounts.get(name.strip_prefix("*.").unwrap_or(name))
    }

    /// A new account.
    pub(crate) async fn register(&self) -> Result<AcmeDnsAccount, DnsError> {
        let answer = self.send(Request::post(format!("{}/register", self.url)), Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(|_| self.fault("its answer is no account".to_owned()))
    }

    /// Has the server show `value` at the name of `account`, beside the one before.
    pub(super) async fn update(&self, account: &AcmeDnsAccount, value: &str) -> Result<(), DnsError> {
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| self.fault("its account is none".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, DnsError>(value)
        };
        let request = Request::post(format!("{}/update", self.url))
            .header("X-Api-User", secret(&account.username)?)
            .header("X-Api-Key", secret(&account.password)?);
        let body = json!({ "subdomain": account.subdomain, "txt": value });
        self.send(request, Bytes::from(body.to_string())).await.map(drop)
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<Bytes, DnsError> {
        let request = request.body(Full::new(body)).map_err(|error| self.fault(error.to_string()))?;
        let (status, answer) = Web::new(None, TIMEOUT).send(request).await.map_err(|reason| self.fault(reason))?;
        if status.is_success() { Ok(answer) } else { Err(self.fault(format!("status {}", status.as_u16()))) }
    }

    fn fault(&self, reason: String) -> DnsError {
        DnsError::Api { url: self.url.clone(), reason }
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FILE: &str = r#"{ "*.Shop.example.": {
        "username": "u", "password": "geheim", "fulldomain": "x.auth.example", "subdomain": "x", "allowfrom": [] } }"#;

    #[test]
    fn accounts_are_found_for_a_name_and_its_wildcard() {
        let api = AcmeDns { url: String::new(), accounts: AcmeDns::read_accounts(FILE).unwrap() };
        for name in ["shop.example", "*.shop.example"] {
            assert_eq!(api.account(name).unwrap().fulldomain, "x.auth.example");
        }
        assert!(api.account("www.shop.example").is_none());
        assert!(!format!("{api:?}").contains("geheim"));
    }

    #[test]
    fn what_is_no_file_of_accounts_is_not_quoted() {
        let mistake = AcmeDns::read_accounts(r#"{ "a": { "password": "geheim" } }"#).unwrap_err();
        assert!(mistake.contains("line 1") && !mistake.contains("geheim"), "{mistake}");
    }
}
