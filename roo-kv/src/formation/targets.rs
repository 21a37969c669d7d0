//! Whom to greet: a list, or the addresses of a name.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use tokio::time::Instant;

use super::own_address::OwnAddress;
use crate::config::Peers;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Most nodes that a list or a name may have.
const TARGETS_MAX: usize = 1024;

/// Where the others are, and for how long that has been so.
pub(crate) struct Targets {
    peers: Peers,
    resolver: Option<TokioResolver>,
    addresses: Vec<String>,
    since: Instant,
    complained: bool,
}

impl Targets {
    pub(crate) fn new(peers: Peers) -> Self {
        let addresses = match &peers {
            Peers::List(list) => list.iter().take(TARGETS_MAX).cloned().collect(),
            Peers::Alone | Peers::Dns { .. } => Vec::new(),
        };
        Self { peers, resolver: None, addresses, since: Instant::now(), complained: false }
    }

    /// How long the answer has been the same.
    pub(crate) fn unchanged_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// The addresses now.
    ///
    /// # Errors
    /// What is waited for, while a name has none.
    pub(crate) async fn look(&mut self) -> Result<Vec<String>, String> {
        let Peers::Dns { name, port, resolver } = &self.peers else { return Ok(self.addresses.clone()) };
        let (name, port, server) = (name.clone(), *port, *resolver);
        match self.resolve(&name, port, server).await {
            Ok(mut found) => {
                self.complained = false;
                found.sort();
                found.dedup();
                found.truncate(TARGETS_MAX);
                if found != self.addresses {
                    tracing::info!(%name, addresses = ?found, "the name's addresses changed");
                    self.addresses = found;
                    self.since = Instant::now();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%name, %error, "cannot resolve the peers' name; it is tried again");
                }
                // A resolver that is away says nothing about who is there.
                self.since = Instant::now();
                self.resolver = None;
                if self.addresses.is_empty() {
                    return Err(format!("the addresses of {name}: {error}"));
                }
            }
        }
        if self.addresses.is_empty() { Err(format!("an address of {name}")) } else { Ok(self.addresses.clone()) }
    }

    /// Whether the target is surely this node itself.
    pub(crate) fn is_own(&self, target: &str, own: &OwnAddress) -> bool {
        own.certain().as_deref() == Some(target) || target.parse().is_ok_and(|address: SocketAddr| own.is_own(address))
    }

    async fn resolve(&mut self, name: &str, port: u16, server: Option<SocketAddr>) -> Result<Vec<String>, String> {
        if self.resolver.is_none() {
            self.resolver = Some(build(server)?);
        }
        let Some(resolver) = &self.resolver else { return Err("there is no resolver".to_owned()) };
        // As ASCII: names of Swarm services hold underscores, which names of hosts must not.
        let name = Name::from_ascii(name).map_err(|e| e.to_string())?;
        let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, resolver.lookup_ip(name)).await;
        let answer = lookup.map_err(|_| "no answer in time".to_owned())?.map_err(|e| e.to_string())?;
        Ok(answer.iter().map(|ip| SocketAddr::new(ip, port).to_string()).collect())
    }
}

fn build(server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let mut builder = match server {
        Some(address) => {
            let mut udp = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut udp.connections {
                connection.port = address.port();
            }
            let config = ResolverConfig::from_parts(None, vec![], vec![udp]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio().map_err(|e| e.to_string())?,
    };
    let options = builder.options_mut();
    // Swarm's DNS names a long time to live, but its answers change with every task.
    options.cache_size = 0;
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|e| e.to_string())
}
