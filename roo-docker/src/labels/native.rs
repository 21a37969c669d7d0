//! The native family: `roo.host`, `roo.port`, `roo.scheme`, `roo.enable`. The destination is the service
//! itself, by the addresses of its tasks.

use super::{
    Claim, Fault, destination,
    origin::{HostPort, Scheme, parse_port},
    sheet::Sheet,
};

/// Hosts, separated by commas: `shop.example, *.shop.example`.
const HOST: &str = "roo.host";
/// The port that the service listens on inside its container.
const PORT: &str = "roo.port";
/// How Roo speaks to the service: `http` (default) or `https`. Clients speak https.
const SCHEME: &str = "roo.scheme";
/// `false` takes the service out of Roo, whatever else is set.
pub(super) const ENABLE: &str = "roo.enable";

/// Every native label that is understood.
pub(super) const ALL: [&str; 4] = [HOST, PORT, SCHEME, ENABLE];

/// Names that are spoken for but mean nothing yet.
pub(super) const UNSUPPORTED: [&str; 8] = [
    "roo.path",
    "roo.sticky",
    "roo.health.path",
    "roo.weight",
    "roo.auth.basic",
    "roo.limit",
    "roo.tcp.port",
    "roo.network",
];

pub(super) fn read(sheet: &mut Sheet, service: &str, published: &[u16]) -> Vec<Claim> {
    let Some(because) = sheet.first_set(&[HOST, PORT, SCHEME]) else {
        return Vec::new();
    };
    let hosts = sheet.required(HOST, because, format!("{HOST}: shop.example"));
    let scheme = read_scheme(sheet, SCHEME, Scheme::Http);
    let port = read_port(sheet, published);
    let (Some(hosts), Some(scheme), Some(port)) = (hosts, scheme, port) else {
        return Vec::new();
    };
    let to = destination::from_parts(scheme, &format!("tasks.{service}"), port);
    let claim = |host: HostPort| Claim { label: HOST.to_owned(), route: host.route(None, Scheme::Https, &to) };
    read_hosts(sheet, HOST, &hosts).into_iter().map(claim).collect()
}

/// A scheme label: its default when it is not set, `None` when it is wrong.
pub(super) fn read_scheme(sheet: &mut Sheet, label: &str, default: Scheme) -> Option<Scheme> {
    match sheet.value(label) {
        None => Some(default),
        Some(value) => sheet.parsed(label, &value, Scheme::parse),
    }
}

/// A comma list of hosts. One that is wrong does not disturb the others.
pub(super) fn read_hosts(sheet: &mut Sheet, label: &str, list: &str) -> Vec<HostPort> {
    let mut hosts = Vec::new();
    for value in list.split(',').map(str::trim).filter(|value| !value.is_empty()) {
        if hosts.len() == HOSTS_MAX {
            sheet.fault(label, Fault::TooManyHosts { max: HOSTS_MAX });
            break;
        }
        hosts.extend(sheet.parsed(label, value, HostPort::parse));
    }
    hosts
}

fn read_port(sheet: &mut Sheet, published: &[u16]) -> Option<u16> {
    match (sheet.value(PORT), published) {
        (Some(value), _) => sheet.parsed(PORT, &value, parse_port),
        (None, [only]) => Some(*only),
        (None, _) => {
            let published = published.to_vec();
            sheet.fault(PORT, Fault::PortUnknown { published });
            None
        }
    }
}

/// Far above what one service is asked by, far below what would weigh on the store.
const HOSTS_MAX: usize = 1000;
