//! How a name is proven to be ours, and which kind of proof comes first.
//!
//! A further kind gets a variant here, its type in `acme`, and its way to be published in `proof`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dns::DnsConfig;
use crate::probe::ProbeConfig;

/// A kind of challenge that we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// A text at `http://<name>/.well-known/acme-challenge/<token>` (RFC 8555 section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate shown in a handshake at port 443 of the name (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record at `_acme-challenge.<name>` (RFC 8555 section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

impl Challenge {
    /// As RFCs and configuration spell it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    const ALL: [Self; 3] = [Self::Http01, Self::TlsAlpn01, Self::Dns01];
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
#[error("{text:?} is no challenge; there are http-01, tls-alpn-01 and dns-01")]
pub struct UnknownChallenge {
    text: String,
}

/// The kinds of challenge in use, the preferred one first.
///
/// By default http-01, then tls-alpn-01, then dns-01 if it is set up. Wildcards are always proven by dns-01.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenges {
    /// In order of preference, each once; empty for the default.
    preference: Vec<Challenge>,
    /// How dns-01 is done, if it can be.
    dns: Option<Arc<DnsConfig>>,
    /// Whether each name is proven, though a wildcard's certificate would do for it.
    each_name: bool,
    /// How names are looked at, if they are.
    probe: Option<Arc<ProbeConfig>>,
}

impl Challenges {
    /// The kinds in this order; the default for none at all. dns-01 needs [`Challenges::with_dns`] as well.
    pub fn new(preference: impl IntoIterator<Item = Challenge>) -> Self {
        let mut each_once = Vec::new();
        for challenge in preference {
            if !each_once.contains(&challenge) {
                each_once.push(challenge);
            }
        }
        Self { preference: each_once, ..Self::default() }
    }

    /// Has dns-01 done as `dns` says.
    #[must_use]
    pub fn with_dns(mut self, dns: DnsConfig) -> Self {
        self.dns = Some(Arc::new(dns));
        self
    }

    /// Has each name proven and given a certificate of its own, though a wildcard's would do for it.
    #[must_use]
    pub fn for_each_name(mut self) -> Self {
        self.each_name = true;
        self
    }

    /// Has names looked at before their first order and after failures.
    #[must_use]
    pub fn with_probe(mut self, probe: ProbeConfig) -> Self {
        self.probe = Some(Arc::new(probe));
        self
    }

    /// How names are looked at.
    pub(crate) fn probe(&self) -> Option<&Arc<ProbeConfig>> {
        self.probe.as_ref()
    }

    /// Whether the certificate of a wildcard is used for names below it.
    pub(crate) fn uses_wildcards(&self) -> bool {
        !self.each_name
    }

    /// How dns-01 is done.
    pub(crate) fn dns(&self) -> Option<&DnsConfig> {
        self.dns.as_deref()
    }

    /// The kinds by which `name` can be proven, the one to be tried first at the front: the one after that which
    /// `failed` last.
    pub(crate) fn for_name(&self, name: &str, failed: Option<Challenge>) -> Result<Vec<Challenge>, Unprovable> {
        if name.starts_with("*.") {
            return if self.dns.is_some() { Ok(vec![Challenge::Dns01]) } else { Err(Unprovable::Wildcard) };
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(Unprovable::Address);
        }
        let mut kinds = self.preference.clone();
        if kinds.is_empty() {
            kinds = vec![Challenge::Http01, Challenge::TlsAlpn01, Challenge::Dns01];
        }
        kinds.retain(|kind| *kind != Challenge::Dns01 || self.dns.is_some());
        if kinds.is_empty() {
            return Err(Unprovable::NoDns);
        }
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
        "a wildcard can only be proven by dns-01, which is not set up: set --acme-dns, route the names themselves, or use the internal CA"
    )]
    Wildcard,
    #[error("--acme-challenge allows dns-01 only, which is not set up: set --acme-dns")]
    NoDns,
    #[error("an IP address is not ordered from an ACME CA: use a DNS name, or the internal CA")]
    Address,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::dns::{DnsHook, DnsWriter};

    #[test]
    fn wildcards_and_addresses_have_no_challenge() {
        let of = |name| Challenges::default().for_name(name, None);
        assert_eq!(of("a.example"), Ok(vec![Challenge::Http01, Challenge::TlsAlpn01]));
        assert_eq!(of("*.a.example"), Err(Unprovable::Wildcard));
        assert_eq!(of("192.0.2.1"), Err(Unprovable::Address));
        assert_eq!(of("2001:db8::1"), Err(Unprovable::Address));
        let only_dns = Challenges::new([Challenge::Dns01]);
        assert_eq!(only_dns.for_name("a.example", None), Err(Unprovable::NoDns));
    }

    #[test]
    fn with_dns_wildcards_are_proven_by_it_and_names_as_preferred() {
        let dns = || DnsConfig {
            writer: DnsWriter::Hook(DnsHook { program: "/bin/true".into(), timeout: Duration::from_secs(1) }),
            resolver: None,
            servers: Vec::new(),
            wait: Duration::ZERO,
        };
        let all = Challenges::default().with_dns(dns());
        assert_eq!(all.for_name("a.example", None), Ok(Challenge::ALL.to_vec()));
        assert_eq!(all.for_name("*.a.example", Some(Challenge::Dns01)), Ok(vec![Challenge::Dns01]));
        assert_eq!(all.for_name("192.0.2.1", None), Err(Unprovable::Address));
        let not_for_names = Challenges::new([Challenge::TlsAlpn01]).with_dns(dns());
        assert_eq!(not_for_names.for_name("a.example", None), Ok(vec![Challenge::TlsAlpn01]));
        assert_eq!(not_for_names.for_name("*.a.example", None), Ok(vec![Challenge::Dns01]));
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
