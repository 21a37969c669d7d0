//! Who gets an origin when several services claim it.

use std::collections::BTreeMap;

use crate::{
    description::Description,
    labels::{self, Fault},
    snapshot::{LabelRoute, Problem, Service},
};

/// Reads the labels of all services and settles claims: of two services that claim the same origin, the
/// first by name has it, and the other is told so. Services and problems come out sorted, so equal input
/// in any order gives equal output.
#[must_use]
pub fn settle(mut descriptions: Vec<Description>) -> (Vec<Service>, Vec<Problem>) {
    descriptions.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let mut register = Register::default();
    let services = descriptions.into_iter().map(|description| register.admit(description)).collect();
    register.problems.sort();
    (services, register.problems)
}

/// Origins given away so far.
#[derive(Debug, Default)]
struct Register {
    /// From an origin to the service that has it.
    owners: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Register {
    fn admit(&mut self, description: Description) -> Service {
        let Description { id, name, .. } = &description;
        let (asked, problems) =
            labels::read(name, &description.service_labels, &description.container_labels, &description.ports);
        self.problems.extend(problems);
        let mut routes: Vec<LabelRoute> = asked.into_iter().filter_map(|route| self.grant(name, route)).collect();
        routes.sort();
        let network = labels::network(&description.service_labels, &description.container_labels);
        let port = own_port(name, &routes).or_else(|| description.ports.only());
        Service { id: id.clone(), name: name.clone(), routes, network, port, tasks: Vec::new() }
    }

    fn grant(&mut self, service: &str, route: LabelRoute) -> Option<LabelRoute> {
        let origin = route.origin();
        if let Some(owner) = self.owners.get(&origin) {
            let owner = owner.clone();
            let fault = Fault::Taken { origin, owner };
            self.problems.push(fault.problem(service, route.label));
            return None;
        }
        self.owners.insert(origin, service.to_owned());
        Some(route)
    }
}

/// The port of the first route that leads to the service itself.
fn own_port(service: &str, routes: &[LabelRoute]) -> Option<u16> {
    let mut targets = routes.iter().flat_map(|route| &route.to);
    targets.find_map(|target| {
        let url = url::Url::parse(&target.url).ok()?;
        let host = url.host_str()?.trim_end_matches('.');
        let is_own = host.strip_prefix("tasks.").unwrap_or(host).eq_ignore_ascii_case(service);
        if is_own { url.port_or_known_default() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(id: &str, name: &str, labels: &[(&str, &str)]) -> Description {
        Description {
            id: id.to_owned(),
            name: name.to_owned(),
            service_labels: labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
            ..Description::default()
        }
    }

    #[test]
    fn the_first_by_name_has_an_origin_and_the_other_is_told() {
        let labels = [("roo.host", "a.example"), ("roo.port", "80")];
        let both = [("roo.host", "a.example,b.example"), ("roo.port", "80")];
        let forward = vec![service("1", "b", &both), service("2", "a", &labels), service("3", "c", &[])];
        let backward = forward.iter().rev().cloned().collect();

        let (services, problems) = settle(forward);
        let routes: Vec<(&str, usize)> = services.iter().map(|s| (s.name.as_str(), s.routes.len())).collect();
        assert_eq!(routes, [("a", 1), ("b", 1), ("c", 0)]);
        assert_eq!(services[1].routes[0].host, "b.example");
        let [problem] = &problems[..] else { panic!("one problem expected, got {problems:#?}") };
        assert_eq!((problem.service.as_str(), problem.label.as_str()), ("b", "roo.host"));
        assert!(problem.message.contains("https://a.example") && problem.message.contains("'a'"));

        assert_eq!(settle(backward), (services, problems), "the order of the list must not matter");
    }

    #[test]
    fn a_bad_service_does_not_disturb_another() {
        let bad = service("1", "bad", &[("OriginHosts", "a.example"), ("DestinationPort", "x")]);
        let good = service("2", "good", &[("roo.host", "a.example"), ("roo.port", "80")]);
        let (services, problems) = settle(vec![bad, good]);
        assert_eq!(services[1].routes.len(), 1, "an origin that came to nothing must not be taken");
        assert!(problems.iter().all(|problem| problem.service == "bad"));
    }
}
