//! Labels of one service, read as routes. Pure: no engine, no clock.
//!
//! Three families say the same thing, and each is a file here: native `roo.*`, the key form
//! `com.roo.host:…`, and the names of the original Roo (`OriginHosts`, …).

use std::collections::BTreeMap;

mod destination;
mod fault;
mod key_form;
mod native;
mod origin;
mod original;
mod sheet;

pub(crate) use fault::Fault;
use sheet::Sheet;

use crate::snapshot::{LabelRoute, Problem};

/// Reads what the labels of `service` ask for.
///
/// `service_labels` are those of the service (`deploy.labels` in a stack file), `container_labels` those
/// of its containers (`labels`); the former win, and where they differ a problem says so.
/// `published_ports` are the TCP ports inside the container that the service publishes: with exactly one,
/// `roo.port` may be left out.
///
/// Routes come out sorted, each origin once. A label that can't be followed yields a [`Problem`] and takes
/// down only the routes that depend on it. Labels of other programs are not looked at. Never panics.
pub fn parse_labels(
    service: &str,
    service_labels: &BTreeMap<String, String>,
    container_labels: &BTreeMap<String, String>,
    published_ports: &[u16],
) -> (Vec<LabelRoute>, Vec<Problem>) {
    let (claims, problems) = read(service, service_labels, container_labels, published_ports);
    (claims.into_iter().map(|claim| claim.route).collect(), problems)
}

/// A route with the label that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) label: String,
    pub(crate) route: LabelRoute,
}

/// As [`parse_labels`], naming the label behind each route.
pub(crate) fn read(
    service: &str,
    service_labels: &BTreeMap<String, String>,
    container_labels: &BTreeMap<String, String>,
    published_ports: &[u16],
) -> (Vec<Claim>, Vec<Problem>) {
    let mut sheet = Sheet::merge(service_labels, container_labels);
    if sheet.off() {
        return (Vec::new(), sheet.problems(service));
    }
    // Where families of one service disagree about an origin, the earlier in this order has it.
    let mut asked = native::read(&mut sheet, service, published_ports);
    asked.extend(key_form::read(&mut sheet));
    asked.extend(original::read(&mut sheet));
    let claims = distinct(&mut sheet, asked);
    (claims, sheet.problems(service))
}

/// Each origin once. The same route asked for twice is fine, two destinations for one origin are not.
fn distinct(sheet: &mut Sheet, asked: Vec<Claim>) -> Vec<Claim> {
    let mut by_origin: BTreeMap<_, Claim> = BTreeMap::new();
    for claim in asked {
        let LabelRoute { host, port, scheme, .. } = &claim.route;
        let origin = (host.clone(), *port, scheme.clone());
        match by_origin.get(&origin) {
            None => {
                by_origin.insert(origin, claim);
            }
            Some(first) if first.route == claim.route => {}
            Some(first) => sheet.fault(
                claim.label,
                Fault::ClaimedTwice {
                    origin: first.route.origin(),
                    label: first.label.clone(),
                    kept: first.route.destination.clone(),
                    dropped: claim.route.destination,
                },
            ),
        }
    }
    by_origin.into_values().collect()
}

#[cfg(test)]
#[path = "labels_test.rs"]
mod tests;
