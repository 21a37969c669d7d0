//! What the DNS tells, as anybody sees it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{ALIASES_MAX, DnsError};

/// Asks a resolver. Nothing is kept between questions, and every question is bounded in time.
pub(crate) struct Lookup {
    resolver: TokioResolver,
}

impl Lookup {
    /// Asks `server`, or else the system's.
    pub(crate) fn new(server: Option<SocketAddr>) -> Result<Self, DnsError> {
        let no_resolver = |error: NetError| DnsError::NoResolver { reason: error.to_string() };
        let mut builder = match server {
            Some(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                let config = ResolverConfig::from_parts(None, vec![], vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(no_resolver)?,
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = TIMEOUT;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self { resolver: builder.build().map_err(no_resolver)? })
    }

    /// The name at the end of the aliases that begin at `name`; `name` itself if it is none.
    pub(crate) async fn alias_end(&self, name: &str) -> Result<String, DnsError> {
        let mut at = parse(name)?;
        for _ in 0..ALIASES_MAX {
            let found = self.records(&at, RecordType::CNAME, "the alias").await?;
            let target = found.into_iter().find_map(|data| match data {
                RData::CNAME(target) => Some(target.0),
                _ => None,
            });
            match target {
                Some(target) => at = target,
                None => return Ok(text(&at)),
            }
        }
        Err(DnsError::Aliases { name: name.to_owned() })
    }

    /// The addresses of `name`; none if it has none.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let mut name = parse(name)?;
        name.set_fqdn(true);
        match self.resolver.lookup_ip(name.clone()).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(DnsError::Lookup { name: text(&name), what: "the addresses", reason: error.to_string() }),
        }
    }

    /// Whether there is anything at `name` or below it.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool, DnsError> {
        let asked = parse(name)?;
        match self.resolver.lookup(asked, RecordType::SOA).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_nx_domain() => Ok(false),
            Err(error) if error.is_no_records_found() => Ok(true),
            Err(error) => Err(DnsError::Lookup { name: name.to_owned(), what: "anything", reason: error.to_string() }),
        }
    }

    /// The name servers of the zone that holds `name`.
    pub(crate) async fn name_servers(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let mut at = parse(name)?;
        while at.num_labels() > 0 {
            let found = self.records(&at, RecordType::NS, "the name servers").await?;
            let servers = found.into_iter().filter_map(|data| match data {
                RData::NS(server) => Some(text(&server.0)),
                _ => None,
            });
            let servers: Vec<String> = servers.collect();
            if !servers.is_empty() {
                return Ok(servers);
            }
            at = at.base_name();
        }
        Err(DnsError::Lookup { name: name.to_owned(), what: "the name servers", reason: "there are none".to_owned() })
    }

    /// What is stored at `name` itself; nothing if it does not exist.
    pub(crate) async fn records(
        &self,
        name: &Name,
        kind: RecordType,
        what: &'static str,
    ) -> Result<Vec<RData>, DnsError> {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(found) => {
                let records = found.answers().iter().filter(|record| record.record_type() == kind);
                Ok(records.map(|record| record.data.clone()).collect())
            }
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(DnsError::Lookup { name: text(name), what, reason: error.to_string() }),
        }
    }
}

/// A name, complete as it stands.
pub(crate) fn parse(name: &str) -> Result<Name, DnsError> {
    let parsed = Name::from_ascii(name);
    let mut parsed = parsed.map_err(|error| DnsError::Name { name: name.to_owned(), reason: error.to_string() })?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// A name without its last dot.
pub(super) fn text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

/// For one question to one server.
const TIMEOUT: Duration = Duration::from_secs(2);
