//! The networks that this machine, or container, is in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Which networks can be reached without a router: those that have an address there.
#[derive(Debug, Clone)]
pub enum Subnets {
    /// What the kernel says at each look, since networks are joined and left while a program runs.
    System,
    /// These.
    Fixed(Vec<IpNet>),
}

impl Subnets {
    /// The networks now.
    pub(crate) fn now(&self) -> Vec<IpNet> {
        match self {
            Self::Fixed(nets) => nets.clone(),
            Self::System => {
                let read = |path| std::fs::read_to_string(path).unwrap_or_default();
                let mut nets = routes_v4(&read("/proc/net/route"));
                nets.extend(routes_v6(&read("/proc/net/ipv6_route")));
                nets
            }
        }
    }
}

/// Whether an address is in one of these.
pub(crate) fn reach(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// Of the kernel's table: interface, destination, gateway, flags, three counts, mask, in hexadecimal, each address as a
/// number in the machine's own order (proc(5)).
fn routes_v4(table: &str) -> Vec<IpNet> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| u32::from_str_radix(fields.get(place)?, 16).ok();
        let address = |place: usize| number(place).map(|number| Ipv4Addr::from(number.to_ne_bytes()));
        let (destination, gateway, mask) = (address(1)?, address(2)?, address(7)?);
        let direct = gateway.is_unspecified() && !mask.is_unspecified();
        direct.then(|| Ipv4Net::with_netmask(destination, mask).ok()).flatten().map(IpNet::V4)
    };
    table.lines().filter_map(line).collect()
}

/// Destination, its length, source, its length, next hop, metric, two counts, flags, interface, all but the last in
/// hexadecimal.
fn routes_v6(table: &str) -> Vec<IpNet> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |place: usize| u128::from_str_radix(fields.get(place)?, 16).ok().map(Ipv6Addr::from);
        let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        let (destination, hop) = (address(0)?, address(4)?);
        let direct = hop.is_unspecified() && (1..128).contains(&length) && fields.last() != Some(&"lo");
        let local = destination.is_multicast() || destination.is_unicast_link_local();
        (direct && !local).then(|| Ipv6Net::new(destination, length).ok()).flatten().map(IpNet::V6)
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_without_a_gateway_are_ours() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth1\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0001000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            eth1\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            eth1\t0002000A\t010012AC\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            torn\t00\n";
        // Written as a machine of this byte order writes it.
        if cfg!(target_endian = "little") {
            let nets = routes_v4(table);
            assert_eq!(nets.iter().map(IpNet::to_string).collect::<Vec<_>>(), ["10.0.1.0/24", "172.18.0.0/16"]);
            assert!(reach(&nets, [10, 0, 1, 77].into()) && !reach(&nets, [10, 0, 2, 77].into()));
        }
        let table = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 1 0 00000001 eth0\n\
            fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 1 0 00000001 eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000100 1 0 00000003 eth0\n";
        assert_eq!(routes_v6(table).iter().map(IpNet::to_string).collect::<Vec<_>>(), ["fd00::/64"]);
    }
}
