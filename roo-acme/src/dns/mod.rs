//! Records for dns-01 (RFC 8555 section 8.4): where they belong, how they are written, and whether they can be seen.
//!
//! A record is stored with its order before it is written, so that whoever continues the order takes it back.

mod acme_dns;
mod hook;
mod lookup;
mod propagation;
mod server;
mod update;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use acme_dns::{AcmeDns, AcmeDnsAccount};
pub use hook::DnsHook;
pub use update::{DnsUpdate, TsigAlgorithm};

pub(crate) use lookup::{Lookup, parse};

/// How dns-01 is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Who writes the records.
    pub writer: DnsWriter,
    /// Whom to ask for names, in place of the system's servers.
    pub resolver: Option<SocketAddr>,
    /// Who must show a record before the CA is asked to look, in place of the name servers of its zone.
    pub servers: Vec<SocketAddr>,
    /// How long they may take to show it; zero: they are not asked.
    pub wait: Duration,
}

/// Who writes the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsWriter {
    /// The zone's own server, told by dynamic update (RFC 2136).
    Update(DnsUpdate),
    /// A server for nothing but these records, to which `_acme-challenge` names are delegated.
    AcmeDns(AcmeDns),
    /// A program on this node.
    Hook(DnsHook),
}

/// A TXT record that proves a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DnsRecord {
    /// Its owner, after all aliases, without the last dot.
    pub(crate) name: String,
    /// Its text.
    pub(crate) value: String,
}

impl DnsConfig {
    /// Where the record that proves `name` belongs: `_acme-challenge` below it, or what that is an alias of.
    pub(crate) async fn place(&self, name: &str) -> Result<String, DnsError> {
        let lookup = Lookup::new(self.resolver)?;
        lookup.alias_end(&challenge_name(name)).await
    }

    /// Writes `record`, which proves `name`. What is there already stays: names may be proven side by side.
    pub(crate) async fn present(
        &self,
        name: &str,
        record: &DnsRecord,
        account: Option<&AcmeDnsAccount>,
    ) -> Result<(), DnsError> {
        match (&self.writer, account) {
            (DnsWriter::Update(update), _) => update.add(self, record).await,
            (DnsWriter::AcmeDns(api), Some(account)) => api.update(account, &record.value).await,
            (DnsWriter::AcmeDns(_), None) => Err(DnsError::NoAccount { name: name.to_owned() }),
            (DnsWriter::Hook(hook), _) => hook.run("present", name, record).await,
        }
    }

    /// Takes `record` back; no error if it is gone.
    pub(crate) async fn clean_up(&self, name: &str, record: &DnsRecord) -> Result<(), DnsError> {
        match &self.writer {
            DnsWriter::Update(update) => update.remove(self, record).await,
            // It keeps the last two texts of a name, and nobody can take one back.
            DnsWriter::AcmeDns(_) => Ok(()),
            DnsWriter::Hook(hook) => hook.run("cleanup", name, record).await,
        }
    }

    /// Waits until all servers of the zone show `record`; [`DnsError::NotVisible`] when one does not in time.
    pub(crate) async fn visible(&self, record: &DnsRecord) -> Result<(), DnsError> {
        if self.wait.is_zero() { Ok(()) } else { propagation::wait(self, record).await }
    }
}

/// The name whose TXT record proves `name` (RFC 8555 section 8.4); one for a wildcard and the name below it.
pub(crate) fn challenge_name(name: &str) -> String {
    format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(name))
}

/// Why a record could not be written, seen or taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error("{name:?} is no DNS name: {reason}")]
    Name { name: String, reason: String },
    #[error("there is no DNS server to ask: {reason}; give one by --acme-resolver")]
    NoResolver { reason: String },
    #[error("the DNS does not tell {what} of {name}: {reason}")]
    Lookup { name: String, what: &'static str, reason: String },
    #[error("the aliases from {name} on do not end after {ALIASES_MAX} steps")]
    Aliases { name: String },
    #[error("the DNS server {server} does not answer: {reason}")]
    Silent { server: SocketAddr, reason: String },
    #[error("the DNS server {server} has no zone for {name} ({code})")]
    NoZone { server: SocketAddr, name: String, code: String },
    #[error(
        "the DNS server {server} refuses to change the zone {zone}: {code}; see that it knows the key {key:?} \
         with this secret, and lets it change TXT records there"
    )]
    Refused { server: SocketAddr, zone: String, key: String, code: String },
    #[error("the TSIG key cannot be used: {reason}")]
    Key { reason: String },
    #[error("{} s after it was written, the record at {name} is not shown by {missing}", waited.as_secs())]
    NotVisible { name: String, missing: String, waited: Duration },
    #[error("the acme-dns server {url} did not do it: {reason}")]
    Api { url: String, reason: String },
    #[error("the order was begun by dns-01, which is not set up at this node: set --acme-dns for all nodes alike")]
    NotConfigured,
    #[error("there is no account at the acme-dns server for {name}")]
    NoAccount { name: String },
    #[error(
        "add to the DNS: {challenge} CNAME {target} (its account at the acme-dns server is there and waits for it)"
    )]
    NotDelegated { challenge: String, target: String },
    #[error("the hook {program} {action}: {reason}")]
    Hook { program: String, action: &'static str, reason: String },
}

/// Aliases from the name of a challenge to where its record is.
const ALIASES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_proven_at_the_name_below_it() {
        assert_eq!(challenge_name("*.shop.example"), "_acme-challenge.shop.example");
        assert_eq!(challenge_name("shop.example"), "_acme-challenge.shop.example");
    }
}
