//! Where others reach this node, as far as it knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// The best answer so far: what was configured, else the listener's own address, else what a peer sees, else an
/// interface's address that the DNS lists, else the loopback address.
pub(crate) struct OwnAddress {
    configured: Option<String>,
    listener: SocketAddr,
    learned: Mutex<Learned>,
}

#[derive(Default)]
struct Learned {
    from_peer: Option<IpAddr>,
    from_dns: Option<IpAddr>,
}

impl OwnAddress {
    pub(crate) fn new(configured: Option<String>, listener: SocketAddr) -> Self {
        Self { configured, listener, learned: Mutex::default() }
    }

    /// The port that the node listens on.
    pub(crate) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// An address that is certain, not learned.
    pub(crate) fn certain(&self) -> Option<String> {
        let specific = || (!self.listener.ip().is_unspecified()).then(|| self.listener.to_string());
        self.configured.clone().or_else(specific)
    }

    /// `host:port` for others.
    pub(crate) fn current(&self) -> String {
        self.certain().unwrap_or_else(|| {
            let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            let ip = learned.from_peer.or(learned.from_dns).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            SocketAddr::new(ip, self.port()).to_string()
        })
    }

    /// A peer says where it sees this node.
    pub(crate) fn seen_by_peer(&self, ip: IpAddr) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).from_peer = Some(ip.to_canonical());
    }

    /// The orchestrator says where this node is.
    pub(crate) fn told(&self, ip: IpAddr) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).from_dns = Some(ip);
    }

    /// Whether an address leads to this node's own listener. Notes it if so.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        if address.port() != self.port() {
            return false;
        }
        let own = if self.listener.ip().is_unspecified() {
            // Only an address of one of our own interfaces can be bound.
            UdpSocket::bind((address.ip(), 0)).is_ok()
        } else {
            address.ip() == self.listener.ip()
        };
        if own {
            self.learned.lock().unwrap_or_else(PoisonError::into_inner).from_dns = Some(address.ip());
        }
        own
    }
}
