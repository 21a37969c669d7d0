//! What may be wrong with a name, seen from here: a hint for people, never in the way of an order.
//!
//! The cluster may be seen otherwise from outside (address translation, balancers, a DNS of its own), so a finding
//! proves nothing, and no finding neither.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::rr::rdata::CAA;
use hickory_proto::rr::{RData, RecordType};
use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::authority::AcmeConfig;
use crate::challenge::Challenge;
use crate::dns::{Lookup, parse};
use crate::record::{self, RecordError};
use crate::timestamp;
use crate::web::Web;

/// How names are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Whom to ask for names, in place of the system's servers.
    pub resolver: Option<SocketAddr>,
    /// Where a CA looks for http-01: 80, but in tests.
    pub http_port: u16,
}

/// What a look at a name has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When.
    #[serde(with = "timestamp")]
    pub at: Timestamp,
    /// What seems wrong, a sentence each; empty if nothing does.
    pub findings: Vec<String>,
}

impl Probe {
    /// The stored form, behind a version byte.
    pub fn encode(&self) -> Vec<u8> {
        record::encode(self)
    }

    /// Reads any stored version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        record::decode(bytes)
    }
}

/// The text that any node of the cluster gives at `/.well-known/acme-challenge/<token>`.
pub(crate) struct SelfCheck {
    pub(crate) token: String,
    pub(crate) text: String,
}

/// Looks at `name`, bounded in time. What cannot be found out is no finding.
pub(crate) async fn look(
    config: &AcmeConfig,
    probe: &ProbeConfig,
    name: &str,
    check: Option<&SelfCheck>,
    now: Timestamp,
) -> Probe {
    let looking = async {
        let Ok(lookup) = Lookup::new(probe.resolver) else { return Vec::new() };
        let (addresses, caa) = tokio::join!(addresses(config, probe, &lookup, name, check), caa(config, &lookup, name));
        addresses.into_iter().chain(caa).collect()
    };
    let findings = tokio::time::timeout(WITHIN, looking).await.unwrap_or_default();
    Probe { at: now, findings }
}

/// Whether the name leads somewhere, and whether we are there.
async fn addresses(
    config: &AcmeConfig,
    probe: &ProbeConfig,
    lookup: &Lookup,
    name: &str,
    check: Option<&SelfCheck>,
) -> Option<String> {
    let kinds = config.challenges.for_name(name, None).ok()?;
    // By dns-01 alone it need not lead anywhere.
    let visited = kinds.iter().any(|kind| *kind != Challenge::Dns01);
    if !visited {
        return None;
    }
    let found = lookup.addresses(name).await.ok()?;
    if found.is_empty() {
        return Some(match lookup.exists(name).await {
            Ok(false) => format!("the DNS has no {name} (NXDOMAIN)"),
            _ => format!("the DNS has neither an A nor an AAAA record for {name}"),
        });
    }
    match check {
        Some(check) if kinds.contains(&Challenge::Http01) => visit(probe.http_port, name, &found, check).await,
        _ => None,
    }
}

/// Fetches the cluster's own text through the public address, as the CA would.
async fn visit(port: u16, name: &str, addresses: &[IpAddr], check: &SelfCheck) -> Option<String> {
    let address = addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first())?;
    let host = match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let request = Request::get(format!("http://{host}:{port}/.well-known/acme-challenge/{}", check.token))
        .header(http::header::HOST, name)
        .body(Full::new(Bytes::new()))
        .ok()?;
    let at = format!("{name} leads to {address}");
    match Web::new(None, VISIT_WITHIN).send(request).await {
        Ok((_, body)) if body == check.text.as_bytes() => None,
        Ok((status, _)) => Some(format!(
            "{at}, where somebody else answers at port {port} (status {}): is that address one of the cluster's?",
            status.as_u16()
        )),
        Err(reason) => Some(format!("{at}, where port {port} does not answer: {reason}")),
    }
}

/// Whether CAA records forbid this CA (RFC 8659): those of the closest name above that has any count.
async fn caa(config: &AcmeConfig, lookup: &Lookup, name: &str) -> Option<String> {
    let is_wildcard = name.starts_with("*.");
    let mut at = parse(name.strip_prefix("*.").unwrap_or(name)).ok()?;
    let records = loop {
        let found = lookup.records(&at, RecordType::CAA, "the CAA records").await.ok()?;
        let found: Vec<CAA> = found
            .into_iter()
            .filter_map(|data| match data {
                RData::CAA(caa) => Some(caa),
                _ => None,
            })
            .collect();
        if !found.is_empty() {
            break found;
        }
        at = at.base_name();
        if at.num_labels() == 0 {
            return None;
        }
    };
    let allowed = allowed(&records, is_wildcard)?;
    let identities = identities(config).await?;
    if identities.is_empty() || identities.iter().any(|identity| allowed.contains(identity)) {
        return None;
    }
    let whom = if allowed.is_empty() { "no CA at all".to_owned() } else { format!("{} only", allowed.join(", ")) };
    Some(format!("the CAA records of {at} allow {whom}, and this CA is {}", identities.join(", ")))
}

/// The CAs that `records` allow; `None` if they say nothing of that kind (RFC 8659 sections 4.2 and 4.3).
fn allowed(records: &[CAA], is_wildcard: bool) -> Option<Vec<String>> {
    let of = |tag: &str| -> Vec<String> {
        let values = records.iter().filter(|caa| caa.tag.eq_ignore_ascii_case(tag));
        values
            .map(|caa| {
                let text = String::from_utf8_lossy(&caa.value);
                text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
            })
            .collect()
    };
    let (issue, wild) = (of("issue"), of("issuewild"));
    let values = if is_wildcard && !wild.is_empty() { wild } else { issue };
    (!values.is_empty()).then(|| values.into_iter().filter(|value| !value.is_empty()).collect())
}

/// What the CA calls itself in CAA records (RFC 8555 section 7.1.1).
async fn identities(config: &AcmeConfig) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Directory {
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "caaIdentities", default)]
        identities: Vec<String>,
    }
    let request = Request::get(&config.directory).body(Full::new(Bytes::new())).ok()?;
    let (_, body) = Web::new(config.extra_roots().ok()?, VISIT_WITHIN).send(request).await.ok()?;
    let directory: Directory = serde_json::from_slice(&body).ok()?;
    Some(directory.meta.identities.into_iter().map(|identity| identity.to_ascii_lowercase()).collect())
}

/// For all of it.
const WITHIN: Duration = Duration::from_secs(20);
const VISIT_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn caa(tag: &str, value: &str) -> CAA {
        let mut caa = CAA::new_issue(false, None, Vec::new());
        (caa.tag, caa.value) = (tag.to_owned(), value.as_bytes().to_vec());
        caa
    }

    #[test]
    fn caa_records_allow_what_they_name() {
        let le = caa("issue", "letsencrypt.org; validationmethods=dns-01");
        let other = caa("issue", " Other.example ");
        let nobody_wild = caa("issuewild", ";");
        let mail = caa("iodef", "mailto:a@shop.example");
        let of = |records: &[&CAA], wild| {
            let records: Vec<CAA> = records.iter().map(|caa| (*caa).clone()).collect();
            allowed(&records, wild)
        };
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[&le, &other, &mail], false), names(&["letsencrypt.org", "other.example"]));
        assert_eq!(of(&[&le], true), names(&["letsencrypt.org"]));
        assert_eq!(of(&[&le, &nobody_wild], true), names(&[]));
        assert_eq!(of(&[&le, &nobody_wild], false), names(&["letsencrypt.org"]));
        assert_eq!(of(&[&nobody_wild], false), None);
        assert_eq!(of(&[&mail], false), None);
    }
}
