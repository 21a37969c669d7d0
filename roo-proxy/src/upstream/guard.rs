//! What no upstream may be, whatever its name leads to: asked of the address itself, right before a connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// Whether the address may be connected to: it is in one of the `allowed` networks, or it is an ordinary address where
/// none of this process's own `listeners` listens.
///
/// # Errors
///
/// Why it may not.
pub(super) fn ip<'a>(
    address: SocketAddr,
    allowed: &[IpNet],
    listeners: impl IntoIterator<Item = &'a SocketAddr>,
) -> Result<(), &'static str> {
    let ip = address.ip().to_canonical();
    let is_allowed = || allowed.iter().any(|network| network.contains(&ip));
    let fault = fault(ip).or_else(|| is_own(SocketAddr::new(ip, address.port()), listeners).then_some(OWN));
    match fault {
        Some(fault) if !is_allowed() => Err(fault),
        _ => Ok(()),
    }
}

/// Whether the socket at `path` lies in one of the directories. The path has no `..` in it.
///
/// # Errors
///
/// Why it may not be connected to.
pub(super) fn unix(path: &str, directories: &[PathBuf]) -> Result<(), &'static str> {
    match directories.iter().any(|directory| Path::new(path).starts_with(directory)) {
        true => Ok(()),
        false => Err("it is in none of the directories given by --unix-upstreams"),
    }
}

const OWN: &str = "Roo itself listens there";
const NO_HOST: &str = "it is the address of no one host";
const LINK_LOCAL: &str = "it is link-local, where clouds serve credentials to whoever asks";
const METADATA: &str = "it is a cloud's metadata service";

/// What is wrong with an address, wherever it is met.
fn fault(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => fault_v4(ip),
        IpAddr::V6(ip) => fault_v6(ip).or_else(|| embedded(ip).and_then(fault_v4)),
    }
}

fn fault_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        // The system takes 0.0.0.0 for itself.
        [0, ..] | [224..=239, ..] | [255, 255, 255, 255] => Some(NO_HOST),
        [169, 254, ..] => Some(LINK_LOCAL),
        // Alibaba, Azure, Oracle.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Some(METADATA),
        _ => None,
    }
}

fn fault_v6(ip: Ipv6Addr) -> Option<&'static str> {
    match ip.segments() {
        [0xff00..=0xffff, ..] | [0, 0, 0, 0, 0, 0, 0, 0] => Some(NO_HOST),
        [0xfe80..=0xfebf, ..] => Some(LINK_LOCAL),
        // Amazon, Google.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => Some(METADATA),
        _ => None,
    }
}

/// The IPv4 address that packets to an IPv6 address may end at: compatible (RFC 4291 §2.5.5.1), translated (RFC 6052
/// §2.1), tunnelled (RFC 3056 §2).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0) if g != 0 => Some(join(g, h)),
        (0x0064, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, ..) => Some(join(b, c)),
        _ => None,
    }
}

/// Whether one of our listeners would take the connection.
fn is_own<'a>(address: SocketAddr, listeners: impl IntoIterator<Item = &'a SocketAddr>) -> bool {
    listeners.into_iter().filter(|listener| listener.port() == address.port()).any(|listener| {
        let takes_all = listener.ip().is_unspecified() && (listener.is_ipv6() || address.is_ipv4());
        listener.ip() == address.ip() || takes_all && is_of_this_machine(address)
    })
}

/// Whether packets to the address would not leave this machine: they would carry it as their sender as well.
fn is_of_this_machine(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting such a socket sends nothing: the system only looks for the way.
    let sender = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    address.ip().is_loopback() || sender.is_ok_and(|sender| sender.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(ip: &str, allowed: &[&str]) -> Result<(), &'static str> {
        let allowed: Vec<IpNet> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        super::ip(SocketAddr::new(ip.parse().unwrap(), 80), &allowed, &[])
    }

    #[test]
    fn addresses_that_are_no_service_are_refused() {
        for (ip, why) in [
            ("0.0.0.0", NO_HOST),
            ("0.1.2.3", NO_HOST),
            ("169.254.169.254", LINK_LOCAL),
            ("169.254.170.2", LINK_LOCAL),
            ("224.0.0.1", NO_HOST),
            ("239.255.255.250", NO_HOST),
            ("255.255.255.255", NO_HOST),
            ("100.100.100.200", METADATA),
            ("168.63.129.16", METADATA),
            ("192.0.0.192", METADATA),
            ("::", NO_HOST),
            ("fe80::1", LINK_LOCAL),
            ("febf::1", LINK_LOCAL),
            ("ff02::1", NO_HOST),
            ("fd00:ec2::254", METADATA),
            ("fd00:ec2::23", METADATA),
            ("fd20:ce::254", METADATA),
            ("::ffff:169.254.169.254", LINK_LOCAL),
            ("::ffff:0.0.0.0", NO_HOST),
            ("::169.254.169.254", LINK_LOCAL),
            ("64:ff9b::169.254.169.254", LINK_LOCAL),
            ("2002:a9fe:a9fe::1", LINK_LOCAL),
        ] {
            assert_eq!(check(ip, &[]), Err(why), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.0.0.1",
            "172.17.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.253.1.1",
            "198.51.100.1",
            "::1",
            "fd00::1",
            "fec0::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "64:ff9b::10.0.0.1",
        ] {
            assert_eq!(check(ip, &[]), Ok(()), "{ip}");
        }
    }

    #[test]
    fn what_a_route_allows_is_allowed() {
        assert_eq!(check("169.254.169.254", &["10.0.0.0/8", "169.254.0.0/16"]), Ok(()));
        assert_eq!(check("::ffff:169.254.169.254", &["169.254.0.0/16"]), Ok(()));
        assert_eq!(check("169.254.169.254", &["169.254.169.253/32", "::/0"]), Err(LINK_LOCAL));
        assert_eq!(check("fe80::1", &["fe80::/10"]), Ok(()));
    }

    #[test]
    fn listeners_of_this_process_are_refused() {
        let check = |address: &str, listener: &str| {
            super::ip(address.parse().unwrap(), &[], &[listener.parse().unwrap()]) == Err(OWN)
        };
        assert!(check("127.0.0.1:80", "127.0.0.1:80"));
        assert!(check("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(check("127.0.0.1:80", "0.0.0.0:80"));
        assert!(check("127.0.0.9:80", "0.0.0.0:80"));
        assert!(check("127.0.0.1:80", "[::]:80"));
        assert!(!check("127.0.0.1:81", "0.0.0.0:80"));
        assert!(!check("127.0.0.2:80", "127.0.0.1:80"));
        assert!(!check("192.0.2.1:80", "0.0.0.0:80"));
        assert!(!check("[::1]:80", "0.0.0.0:80"));
    }
}
