//! Networks in the stored form of a route.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::{RouteError, shortened};

/// Reads networks; a bare address stands for itself alone.
pub(super) fn parse_networks(texts: &[String]) -> Result<Vec<IpNet>, RouteError> {
    let network = |text: &String| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    texts.iter().map(|text| network(text).map_err(|_| RouteError::Address { text: shortened(text) })).collect()
}
