//! The ports of a node, bound or handed over.

use std::io;
use std::net::{SocketAddr, TcpListener};

use roo_proxy::Listeners;

use crate::app::handover::{Handed, Name, Named};
use crate::cli::Failure;
use crate::config::Config;

/// The ports of a node.
pub(super) struct Bound {
    pub(super) proxy: Listeners,
    pub(super) api: tokio::net::TcpListener,
    pub(super) api_address: SocketAddr,
    pub(super) raft: TcpListener,
    pub(super) raft_address: SocketAddr,
    /// The sockets of API and Raft once more, to be handed over in turn.
    pub(super) copies: Vec<Named>,
}

impl Bound {
    /// Takes what was handed over, in place of the settings, and binds the rest.
    pub(super) fn bind(config: &Config, handed: Handed) -> Result<Self, Failure> {
        let proxy = Listeners::take(handed.proxy, &config.http, &config.https, config.workers)
            .map_err(|error| taken(error.address, error.scheme.as_str(), &error.source))?;
        let bind = |handed: Option<TcpListener>, address: SocketAddr, flag| match handed {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(address).map_err(|error| taken(address, flag, &error)),
        };
        let api = bind(handed.api, config.api, "api")?;
        let raft = bind(handed.raft, config.raft, "raft")?;
        Self::of(proxy, api, raft).map_err(|error| Failure::Failed(format!("can't use the listening sockets: {error}")))
    }

    fn of(proxy: Listeners, api: TcpListener, raft: TcpListener) -> io::Result<Self> {
        api.set_nonblocking(true)?;
        let copies = vec![
            Named { name: Name::Api, listener: api.try_clone()? },
            Named { name: Name::Raft, listener: raft.try_clone()? },
        ];
        let (api_address, raft_address) = (api.local_addr()?, raft.local_addr()?);
        let api = tokio::net::TcpListener::from_std(api)?;
        Ok(Self { proxy, api, api_address, raft, raft_address, copies })
    }

    pub(super) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let own = [("api", self.api_address), ("raft", self.raft_address)];
        self.proxy.addresses().map(|(scheme, address)| (scheme.as_str(), address)).chain(own).collect()
    }
}

fn taken(address: SocketAddr, flag: &str, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {} is taken ({address})", address.port()),
        io::ErrorKind::PermissionDenied => format!("port {} may not be used by this user", address.port()),
        _ => format!("can't listen on {address}: {error}"),
    };
    Failure::Failed(format!("{what}; choose another with --{flag} or ROO_{}", flag.to_uppercase()))
}
