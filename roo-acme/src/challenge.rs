//! How a name is proven to be ours.
//!
//! A further kind (tls-alpn-01, dns-01) gets a variant here, a case in [`Challenge::for_name`], its type in
//! `acme`, and its way to be published in the vault.

use std::net::IpAddr;

/// The kinds of challenge we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A text at `http://<name>/.well-known/acme-challenge/<token>` (RFC 8555 section 8.3).
    Http01,
}

impl Challenge {
    /// The challenge by which `name` can be proven.
    pub(crate) fn for_name(name: &str) -> Result<Self, Unprovable> {
        if name.starts_with("*.") {
            return Err(Unprovable::Wildcard);
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(Unprovable::Address);
        }
        Ok(Self::Http01)
    }
}

/// Why no challenge fits a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unprovable {
    #[error(
        "a wildcard can only be proven by dns-01, which is not available yet: route the names themselves, or use the internal CA"
    )]
    Wildcard,
    #[error("an IP address is not ordered from an ACME CA: use a DNS name, or the internal CA")]
    Address,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_addresses_have_no_challenge() {
        assert_eq!(Challenge::for_name("a.example"), Ok(Challenge::Http01));
        assert_eq!(Challenge::for_name("*.a.example"), Err(Unprovable::Wildcard));
        assert_eq!(Challenge::for_name("192.0.2.1"), Err(Unprovable::Address));
        assert_eq!(Challenge::for_name("2001:db8::1"), Err(Unprovable::Address));
    }
}
