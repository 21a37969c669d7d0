//! How a name is proven to be ours, and which kind of proof comes first.
//!
//! A further kind gets a variant here, its type in `acme`, and its way to be published in `proof`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of challenge that we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// A text at `http://<name>/.well-known/acme-challenge/<token>` (RFC 8555 section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate shown in a handshake at port 443 of the name (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Challenge {
    /// As RFCs and configuration spell it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    const ALL: [Self; 2] = [Self::Http01, Self::TlsAlpn01];
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Challenge {
    type Err = UnknownChallenge;

    fn from_str(text: &str) -> Result<Self, UnknownChallenge> {
        let found = Self::ALL.into_iter().find(|challenge| challenge.label() == text);
        found.ok_or_else(|| UnknownChallenge { text: text.to_owned() })
    }
}

/// A text that names no kind of challenge.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no challenge; there are http-01 and tls-alpn-01")]
pub struct UnknownChallenge {
    text: String,
}

/// The kinds of challenge in use, the preferred one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenges {
    /// In order of preference, each once. Never empty.
    preference: Vec<Challenge>,
}

impl Default for Challenges {
    /// http-01, then tls-alpn-01.
    fn default() -> Self {
        Self { preference: vec![Challenge::Http01, Challenge::TlsAlpn01] }
    }
}

impl Challenges {
    /// The kinds in this order; the default for none at all.
    pub fn new(preference: impl IntoIterator<Item = Challenge>) -> Self {
        let mut each_once = Vec::new();
        for challenge in preference {
            if !each_once.contains(&challenge) {
                each_once.push(challenge);
            }
        }
        if each_once.is_empty() { Self::default() } else { Self { preference: each_once } }
    }

    /// The kinds by which `name` can be proven, the one to be tried first at the front: the one after that which
    /// `failed` last.
    pub(crate) fn for_name(&self, name: &str, failed: Option<Challenge>) -> Result<Vec<Challenge>, Unprovable> {
        if name.starts_with("*.") {
            return Err(Unprovable::Wildcard);
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(Unprovable::Address);
        }
        let mut kinds = self.preference.clone();
        if let Some(at) = kinds.iter().position(|kind| Some(*kind) == failed) {
            let count = kinds.len();
            kinds.rotate_left((at + 1) % count);
        }
        Ok(kinds)
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn wildcards_and_addresses_have_no_challenge() {
        let of = |name| Challenges::default().for_name(name, None);
        assert_eq!(of("a.example"), Ok(vec![Challenge::Http01, Challenge::TlsAlpn01]));
        assert_eq!(of("*.a.example"), Err(Unprovable::Wildcard));
        assert_eq!(of("192.0.2.1"), Err(Unprovable::Address));
        assert_eq!(of("2001:db8::1"), Err(Unprovable::Address));
    }

    #[test]
    fn the_kind_after_the_one_that_failed_comes_next() {
        let challenges = Challenges::new([Challenge::TlsAlpn01, Challenge::Http01, Challenge::TlsAlpn01]);
        let next = |failed| challenges.for_name("a.example", failed).unwrap();
        assert_eq!(next(None), [Challenge::TlsAlpn01, Challenge::Http01]);
        assert_eq!(next(Some(Challenge::TlsAlpn01)), [Challenge::Http01, Challenge::TlsAlpn01]);
        assert_eq!(next(Some(Challenge::Http01)), [Challenge::TlsAlpn01, Challenge::Http01]);
        // One that is not used any more says nothing.
        let only = Challenges::new([Challenge::Http01]);
        assert_eq!(only.for_name("a.example", Some(Challenge::TlsAlpn01)), Ok(vec![Challenge::Http01]));
        assert_eq!(only.for_name("a.example", Some(Challenge::Http01)), Ok(vec![Challenge::Http01]));
    }

    #[test]
    fn labels_are_those_of_the_records() {
        for challenge in Challenge::ALL {
            assert_eq!(challenge.label().parse(), Ok(challenge));
            assert_eq!(serde_json::to_string(&challenge).unwrap(), format!("{:?}", challenge.label()));
        }
        assert!("http".parse::<Challenge>().unwrap_err().to_string().contains("http-01"));
        assert_eq!(Challenges::new([]), Challenges::default());
    }
}
