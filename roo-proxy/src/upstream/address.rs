//! Where an upstream is reached.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a connection is made to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Ip(SocketAddr),
    /// The path of a socket in the file system.
    Unix(Arc<str>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
