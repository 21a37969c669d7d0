//! Ports for programs that can't pick one themselves.

use std::net::{SocketAddr, TcpListener};

use anyhow::Result;

/// `N` different addresses on loopback that nobody listens on just now.
pub fn free<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::new();
    for _ in 0..N {
        held.push(TcpListener::bind("127.0.0.1:0")?);
    }
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}
