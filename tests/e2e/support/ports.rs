//! Ports for programs that must be told theirs.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below the ports that systems give to whoever asks for any, so that nobody gets one of these by chance between here and
/// its use. (On Linux those begin at 32768; see ip(7), `ip_local_port_range`.)
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port that is free at all of `hosts`, and that this process has not given before.
pub fn free_port_at(hosts: &[IpAddr]) -> Result<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Processes beside this one begin elsewhere.
    let start = std::process::id().wrapping_mul(7919) as u16;
    let mut candidates = (0..COUNT).map(|_| FIRST + start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let is_free = |port: &u16| hosts.iter().all(|host| TcpListener::bind(SocketAddr::new(*host, *port)).is_ok());
    candidates.find(is_free).context("no port is free")
}

/// An address on loopback that nobody listens on.
#[allow(dead_code, reason = "some tests let the system pick all ports")]
pub fn free_address() -> Result<SocketAddr> {
    let host = IpAddr::from([127, 0, 0, 1]);
    Ok(SocketAddr::new(host, free_port_at(&[host])?))
}
