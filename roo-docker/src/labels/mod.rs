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
mod ports;
mod settings;
mod sheet;

pub(crate) use fault::Fault;
pub use ports::{Exposed, Ports};
use sheet::Sheet;

use crate::snapshot::{LabelRoute, Problem};

/// Reads what the labels of `service` ask for.
///
/// `service_labels` are those of the service (`deploy.labels` in a stack file), `container_labels` those
/// of its containers (`labels`); the former win, and where they differ a problem says so.
/// Where no label names the port of a native route, `ports` decide.
///
/// Routes come out sorted, each origin once. A label that can't be followed yields a [`Problem`] and takes
/// down only the routes that depend on it. Labels of other programs are not looked at. Never panics.
pub(crate) fn read(
    service: &str,
    service_labels: &BTreeMap<String, String>,
    container_labels: &BTreeMap<String, String>,
    ports: &Ports,
) -> (Vec<LabelRoute>, Vec<Problem>) {
    let mut sheet = Sheet::merge(service_labels, container_labels);
    // An empty one is a fault.
    sheet.value(native::NETWORK);
    if sheet.off() {
        return (Vec::new(), sheet.problems(service));
    }
    // Where families of one service disagree about an origin, the earlier in this order has it.
    let mut asked = native::read(&mut sheet, service, ports);
    asked.extend(key_form::read(&mut sheet));
    asked.extend(original::read(&mut sheet));
    let routes = distinct(&mut sheet, asked);
    (routes, sheet.problems(service))
}

/// The network that labels choose for a service. What is wrong with the label is for [`read`] to tell.
pub(crate) fn network(
    service_labels: &BTreeMap<String, String>,
    container_labels: &BTreeMap<String, String>,
) -> Option<String> {
    let value = service_labels.get(native::NETWORK).or_else(|| container_labels.get(native::NETWORK))?;
    Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Whether these labels speak of native routes, so that it matters which ports the image exposes.
pub(crate) fn is_native(label: &str) -> bool {
    native::is_known(label)
}

/// Each origin once. The same route asked for twice is fine, two different ones for one origin are not.
fn distinct(sheet: &mut Sheet, asked: Vec<LabelRoute>) -> Vec<LabelRoute> {
    let mut by_origin: BTreeMap<_, LabelRoute> = BTreeMap::new();
    for route in asked {
        let origin = (route.host.clone(), route.port, route.scheme.clone());
        match by_origin.get(&origin) {
            None => {
                by_origin.insert(origin, route);
            }
            Some(first) if first.agrees(&route) => {}
            Some(first) => sheet.fault(
                route.label.clone(),
                Fault::ClaimedTwice {
                    origin: first.origin(),
                    label: first.label.clone(),
                    kept: first.urls(),
                    dropped: route.urls(),
                },
            ),
        }
    }
    by_origin.into_values().collect()
}

#[cfg(test)]
#[path = "labels_test.rs"]
mod tests;
