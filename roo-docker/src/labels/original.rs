//! The family of the original Roo: `OriginHosts` and its companions.

use super::{
    destination,
    origin::{HostPort, Scheme, parse_port},
    sheet::Sheet,
};
use crate::snapshot::LabelRoute;

/// Hosts, separated by commas.
const ORIGIN_HOSTS: &str = "OriginHosts";
/// The same for one host.
const ORIGIN_HOST: &str = "OriginHost";
/// How clients speak to Roo: `https` (default) or `http`.
const ORIGIN_SCHEME: &str = "OriginScheme";
/// The port that clients ask for, if it is not the scheme's own.
const ORIGIN_PORT: &str = "OriginPort";
/// The service by name: `stack_service` or `tasks.stack_service`.
const DESTINATION_HOST: &str = "DestinationHost";
/// The port that it listens on inside its container.
const DESTINATION_PORT: &str = "DestinationPort";
/// How Roo speaks to it: `http` (default) or `https`.
const DESTINATION_SCHEME: &str = "DestinationScheme";

/// Every label of this family.
pub(super) const ALL: [&str; 7] =
    [ORIGIN_HOSTS, ORIGIN_HOST, ORIGIN_SCHEME, ORIGIN_PORT, DESTINATION_HOST, DESTINATION_PORT, DESTINATION_SCHEME];

pub(super) fn read(sheet: &mut Sheet) -> Vec<LabelRoute> {
    let Some(because) = sheet.first_set(&ALL) else {
        return Vec::new();
    };
    let hosts = read_origin_hosts(sheet, because);
    let scheme = sheet.scheme(ORIGIN_SCHEME, Scheme::Https);
    let port = read_origin_port(sheet);
    let to = read_destination(sheet, because);
    let (Some(scheme), Some(port), Some(to)) = (scheme, port, to) else {
        return Vec::new();
    };
    let mut routes = Vec::new();
    for (label, list) in hosts {
        let route = |host: HostPort| host.origin(port, scheme).route(label, to.clone());
        routes.extend(sheet.hosts(label, &list).into_iter().map(route));
    }
    routes
}

/// The host labels that are set, with their lists.
fn read_origin_hosts(sheet: &mut Sheet, because: &str) -> Vec<(&'static str, String)> {
    if sheet.first_set(&[ORIGIN_HOSTS, ORIGIN_HOST]).is_none() {
        sheet.required(ORIGIN_HOSTS, because, format!("{ORIGIN_HOSTS}: shop.example"));
    }
    [ORIGIN_HOSTS, ORIGIN_HOST].into_iter().filter_map(|label| Some((label, sheet.value(label)?))).collect()
}

/// `Some(None)` when it is not set, `None` when it is wrong.
fn read_origin_port(sheet: &mut Sheet) -> Option<Option<u16>> {
    match sheet.value(ORIGIN_PORT) {
        None => Some(None),
        Some(value) => sheet.parsed(ORIGIN_PORT, &value, parse_port).map(Some),
    }
}

fn read_destination(sheet: &mut Sheet, because: &str) -> Option<String> {
    let example = |label: &str, value: &str| format!("{label}: {value}");
    let host = sheet.required(DESTINATION_HOST, because, example(DESTINATION_HOST, "stack_service"));
    let port = sheet.required(DESTINATION_PORT, because, example(DESTINATION_PORT, "80"));
    let scheme = sheet.scheme(DESTINATION_SCHEME, Scheme::Http);
    let host = host.and_then(|value| sheet.parsed(DESTINATION_HOST, &value, destination::parse_host));
    let port = port.and_then(|value| sheet.parsed(DESTINATION_PORT, &value, parse_port));
    Some(destination::from_parts(scheme?.as_str(), &host?, port?))
}
