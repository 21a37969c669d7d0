//! The CAs that certificates are ordered from, in order of preference.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authority::{AcmeConfig, is_private};
use crate::challenge::Challenges;

/// CAs that speak ACME, the preferred one first. Never empty, each once.
///
/// A name is ordered from the first; from the next one while that can't or won't issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cas(Vec<AcmeConfig>);

impl Cas {
    /// `first`, then `others`; those that were named before are left out.
    pub fn new(first: AcmeConfig, others: impl IntoIterator<Item = AcmeConfig>) -> Self {
        let mut cas = vec![first];
        for other in others {
            if cas.iter().all(|known| known.directory != other.directory) {
                cas.push(other);
            }
        }
        Self(cas)
    }

    /// The preferred one.
    pub fn first(&self) -> &AcmeConfig {
        &self.0[0]
    }

    /// All of them, the preferred one first.
    pub fn iter(&self) -> std::slice::Iter<'_, AcmeConfig> {
        self.0.iter()
    }

    /// The one with this directory.
    pub fn at(&self, directory: &str) -> Option<&AcmeConfig> {
        self.iter().find(|config| config.directory == directory)
    }

    /// Whether there is a second one.
    pub(crate) fn is_choice(&self) -> bool {
        self.0.len() > 1
    }

    /// Those that may hear of `name`: public ones never of names that mean something here alone.
    pub(crate) fn for_name(&self, name: &str) -> impl Iterator<Item = &AcmeConfig> {
        let private = is_private(name);
        self.iter().filter(move |config| !(private && config.is_public()))
    }

    /// How names are proven, which is the same for all of them.
    pub(crate) fn challenges(&self) -> &Challenges {
        &self.first().challenges
    }
}

impl From<AcmeConfig> for Cas {
    fn from(only: AcmeConfig) -> Self {
        Self(vec![only])
    }
}

/// What a CA gave to somebody who is known to it, so that an account can be bound to that (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The id of the key.
    pub key_id: String,
    /// The key itself. Never shown.
    pub(crate) hmac: Vec<u8>,
}

impl ExternalAccount {
    /// Reads `KID:HMAC`, the key in base64url, as CAs give it.
    ///
    /// # Errors
    /// A sentence, which does not quote the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = "write KEY-ID:HMAC, both as the CA gave them";
        let (key_id, hmac) = text.trim().rsplit_once(':').ok_or(expected)?;
        if key_id.is_empty() || !key_id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("the key id is empty or not visible ASCII; {expected}"));
        }
        // Some give it with padding, some by the other alphabet.
        let plain = hmac.trim_end_matches('=').replace('+', "-").replace('/', "_");
        match URL_SAFE_NO_PAD.decode(plain) {
            Ok(hmac) if !hmac.is_empty() => Ok(Self { key_id: key_id.to_owned(), hmac }),
            _ => Err(format!("the HMAC key, behind the last colon, is not base64url; {expected}")),
        }
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_key_of_an_external_account_is_base64url_and_shown_nowhere() {
        for text in ["kid-1:c2VjcmV0LWtleQ", "kid-1:c2VjcmV0LWtleQ==", " kid-1:c2VjcmV0LWtleQ\n"] {
            let account = ExternalAccount::parse(text).unwrap();
            assert_eq!((account.key_id.as_str(), account.hmac.as_slice()), ("kid-1", b"secret-key".as_slice()));
            assert!(!format!("{account:?}").contains("secret"));
        }
        assert_eq!(ExternalAccount::parse("a:b:-_-_").unwrap().hmac, ExternalAccount::parse("x:+/+/").unwrap().hmac);
        for wrong in ["", "kid", ":c2Vj", "kid:", "kid:c2!j", "k id:c2Vj"] {
            let fault = ExternalAccount::parse(wrong).unwrap_err();
            assert!(fault.contains("write KEY-ID:HMAC") && !fault.contains("c2"), "{fault}");
        }
    }

    #[test]
    fn each_ca_is_there_once() {
        let cas = Cas::new(AcmeConfig::at("https://a.example/d"), ["b", "a", "b"].map(ca));
        let directories: Vec<&str> = cas.iter().map(|config| config.directory.as_str()).collect();
        assert_eq!(directories, ["https://a.example/d", "https://b.example/d"]);
    }

    #[test]
    fn private_names_are_told_to_cas_of_ones_own_only() {
        let own = AcmeConfig { extra_roots_pem: Some(Vec::new()), ..ca("own") };
        let cas = Cas::new(ca("public"), [own]);
        let heard = |name| cas.for_name(name).map(|config| config.directory.as_str()).collect::<Vec<_>>();
        assert_eq!(heard("shop.example"), ["https://public.example/d", "https://own.example/d"]);
        assert_eq!(heard("db.internal"), ["https://own.example/d"]);
    }

    fn ca(name: &str) -> AcmeConfig {
        AcmeConfig::at(&format!("https://{name}.example/d"))
    }
}
