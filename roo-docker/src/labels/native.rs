//! The native family, `roo.*`: hosts, and everything a route can hold. Requests go to the service's own tasks
//! unless `roo.to` says otherwise.
//!
//! `roo.<setting>` speaks of the service's first route, `roo.routes.<name>.<setting>` of further ones. Routes share
//! nothing but the service.

use std::collections::BTreeSet;

use super::{
    Fault, Ports, destination,
    origin::{HostPort, Scheme, parse_port},
    settings::{self, SETTINGS},
    sheet::Sheet,
};
use crate::snapshot::{LabelRoute, Setting, Target};

/// Hosts, separated by commas: `shop.example, *.shop.example`.
const HOST: &str = "roo.host";
/// The port that the service listens on inside its container.
const PORT: &str = "roo.port";
/// How Roo speaks to the service: `http` (default), `https` or `h2c`.
const SCHEME: &str = "roo.scheme";
/// How clients speak to Roo: `https` (default), `http`, or both.
const ORIGIN_SCHEME: &str = "roo.origin.scheme";
/// URLs that requests go to in place of the service's own tasks, each with a weight or without.
const TO: &str = "roo.to";
/// `false` takes the service out of Roo, whatever else is set.
pub(super) const ENABLE: &str = "roo.enable";

/// The network in which the service's tasks are reached.
pub(super) const NETWORK: &str = "roo.network";

/// The labels of a route that are no fields of its document.
const BASIC: [&str; 5] = [HOST, PORT, SCHEME, ORIGIN_SCHEME, TO];

/// Names that are spoken for but mean nothing yet.
pub(super) const UNSUPPORTED: [&str; 7] =
    ["roo.path", "roo.sticky", "roo.health.path", "roo.weight", "roo.auth.basic", "roo.limit", "roo.tcp.port"];

/// What all labels of further routes start with; the route's name follows.
pub(super) const ROUTES: &str = "roo.routes.";

/// Every native label that is understood, as the first route has it.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    of_a_route().chain([ENABLE, NETWORK])
}

/// Whether this is a native label.
pub(super) fn is_known(label: &str) -> bool {
    match split(label) {
        Some((_, rest)) => is_of_a_route(&rest),
        None => names().any(|name| name == label),
    }
}

/// Whether each route may have this label, as the first one has it.
pub(super) fn is_of_a_route(name: &str) -> bool {
    of_a_route().any(|known| known == name)
}

/// The label as the first route has it: `roo.port` for `roo.routes.admin.port`.
pub(super) fn general(label: &str) -> Option<String> {
    match split(label) {
        Some((_, rest)) => Some(rest),
        None => label.starts_with("roo.").then(|| label.to_owned()),
    }
}

/// The route that a label of a further route belongs to, and the label as the first route has it.
pub(super) fn split(label: &str) -> Option<(Group, String)> {
    let (name, rest) = label.strip_prefix(ROUTES)?.split_once('.')?;
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let whole = !name.is_empty() && name.chars().all(fine) && !rest.is_empty();
    whole.then(|| (Group { prefix: format!("{ROUTES}{name}.") }, format!("roo.{rest}")))
}

/// The labels of one route, by what their names start with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    prefix: String,
}

impl Group {
    fn first() -> Self {
        Self { prefix: "roo.".to_owned() }
    }

    /// The name that a label of the first route has in this one.
    pub(super) fn label(&self, name: &str) -> String {
        format!("{}{}", self.prefix, name.strip_prefix("roo.").unwrap_or(name))
    }
}

pub(super) fn read(sheet: &mut Sheet, service: &str, ports: &Ports) -> Vec<LabelRoute> {
    let further: BTreeSet<Group> =
        sheet.names(ROUTES).iter().filter(|label| is_known(label)).filter_map(|label| Some(split(label)?.0)).collect();
    let groups = std::iter::once(Group::first()).chain(further);
    groups.flat_map(|group| Reader { sheet, group, service, ports }.read()).collect()
}

fn of_a_route() -> impl Iterator<Item = &'static str> {
    BASIC.into_iter().chain(SETTINGS.iter().map(|setting| setting.label))
}

/// Reads the labels of one route.
struct Reader<'a> {
    sheet: &'a mut Sheet,
    group: Group,
    service: &'a str,
    ports: &'a Ports,
}

impl Reader<'_> {
    fn read(mut self) -> Vec<LabelRoute> {
        let labels: Vec<String> = of_a_route().map(|name| self.group.label(name)).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let Some(because) = self.sheet.first_set(&labels) else {
            return Vec::new();
        };
        let host_label = self.group.label(HOST);
        let hosts = self.sheet.required(&host_label, because, format!("{host_label}: shop.example"));
        let hosts = hosts.map_or(Vec::new(), |hosts| self.sheet.hosts(&host_label, &hosts));
        let schemes = self.origin_schemes();
        let to = self.targets();
        let settings = self.settings();
        let (Some(schemes), Some((to, to_label)), Some(settings)) = (schemes, to, settings) else {
            return Vec::new();
        };
        let route = |host: &HostPort, scheme: &Scheme| {
            host.clone().origin(None, *scheme).route_to(&host_label, to.clone(), &to_label, settings.clone())
        };
        hosts
            .iter()
            .flat_map(|host| schemes.iter().map(move |scheme| (host, scheme)))
            .map(|(h, s)| route(h, s))
            .collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.sheet.value(&self.group.label(name))
    }

    fn parsed<T>(&mut self, name: &str, value: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
        self.sheet.parsed(&self.group.label(name), value, parse)
    }

    fn origin_schemes(&mut self) -> Option<Vec<Scheme>> {
        let Some(value) = self.value(ORIGIN_SCHEME) else {
            return Some(vec![Scheme::Https]);
        };
        self.parsed(ORIGIN_SCHEME, &value, |value| {
            let fault = |_| Fault::OriginScheme { value: value.to_owned() };
            value.split(',').map(|one| Scheme::parse(one.trim())).collect::<Result<_, _>>().map_err(fault)
        })
    }

    /// The destinations, and the label that names them.
    fn targets(&mut self) -> Option<(Vec<Target>, String)> {
        let Some(list) = self.value(TO) else {
            let url = self.own_tasks()?;
            return Some((vec![Target { url, weight: None }], self.group.label(PORT)));
        };
        for name in [PORT, SCHEME] {
            let label = self.group.label(name);
            if self.sheet.first_set(&[&label]).is_some() {
                let because = self.group.label(TO);
                self.sheet.fault(label, Fault::Unused { because });
            }
        }
        let targets = self.parsed(TO, &list, |list| list.split(',').map(|one| parse_target(one.trim())).collect())?;
        Some((targets, self.group.label(TO)))
    }

    /// The URL of the service itself, by the addresses of its tasks.
    fn own_tasks(&mut self) -> Option<String> {
        let scheme = match self.value(SCHEME) {
            None => Some("http".to_owned()),
            Some(value) => self.parsed(SCHEME, &value, parse_service_scheme),
        };
        let port = self.port();
        Some(destination::from_parts(&scheme?, &format!("tasks.{}", self.service), port?))
    }

    fn port(&mut self) -> Option<u16> {
        let label = self.group.label(PORT);
        match self.sheet.value(&label) {
            Some(value) => {
                let port = self.sheet.parsed(&label, &value, parse_port)?;
                if let Some(fault) = self.ports.doubt(port) {
                    self.sheet.fault(label, fault);
                }
                Some(port)
            }
            // One that is set but empty is reported already.
            None if self.sheet.first_set(&[&label]).is_some() => None,
            None => match self.ports.guess(format!("{label}: 80")) {
                Ok(port) => Some(port),
                Err(fault @ Fault::PortUnseen { .. }) => {
                    self.sheet.fault(label, fault);
                    Some(80)
                }
                Err(fault) => {
                    self.sheet.fault(label, fault);
                    None
                }
            },
        }
    }

    /// `None` if any is wrong.
    fn settings(&mut self) -> Option<Vec<Setting>> {
        let mut read = Vec::new();
        let mut fine = true;
        for kind in SETTINGS {
            let label = self.group.label(kind.label);
            if self.sheet.first_set(&[&label]).is_none() {
                continue;
            }
            let value = self.sheet.value(&label);
            let value = value.and_then(|value| self.sheet.parsed(&label, &value, |text| settings::parse(kind, text)));
            fine &= value.is_some();
            read.extend(value.map(|value| Setting { label, field: kind.field.to_owned(), value }));
        }
        fine.then_some(read)
    }
}

fn parse_service_scheme(value: &str) -> Result<String, Fault> {
    let lower = value.to_ascii_lowercase();
    match lower.as_str() {
        "http" | "https" | "h2c" => Ok(lower),
        _ => Err(Fault::ServiceScheme { value: value.to_owned() }),
    }
}

/// `URL` or `URL weight`. Whether the URL is a destination is for the receiver to judge.
fn parse_target(text: &str) -> Result<Target, Fault> {
    let fault = || Fault::Target { value: text.to_owned() };
    let mut words = text.split_whitespace();
    let url = words.next().ok_or_else(fault)?.to_owned();
    let weight = words.next().map(|word| word.parse().ok().filter(|weight| *weight <= 100).ok_or_else(fault));
    let weight = weight.transpose()?;
    if words.next().is_some() || !url.contains(':') {
        return Err(fault());
    }
    Ok(Target { url, weight })
}
