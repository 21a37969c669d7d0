//! Who gets an origin when several services claim it.

use std::collections::BTreeMap;

use crate::{
    client::Description,
    labels::{self, Claim, Fault},
    snapshot::{LabelRoute, Problem, Service},
};

/// Reads the labels of all services and settles claims: of two services that claim the same origin, the
/// first by name has it, and the other is told so. Services and problems come out sorted, so equal input
/// in any order gives equal output.
pub(crate) fn settle(mut descriptions: Vec<Description>) -> (Vec<Service>, Vec<Problem>) {
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
        let (claims, problems) =
            labels::read(name, &description.service_labels, &description.container_labels, &description.ports);
        self.problems.extend(problems);
        let mut routes: Vec<LabelRoute> = claims.into_iter().filter_map(|claim| self.grant(name, claim)).collect();
        routes.sort();
        Service { id: id.clone(), name: name.clone(), routes }
    }

    fn grant(&mut self, service: &str, claim: Claim) -> Option<LabelRoute> {
        let origin = claim.route.origin();
        if let Some(owner) = self.owners.get(&origin) {
            let owner = owner.clone();
            let fault = Fault::Taken { origin, owner };
            self.problems.push(fault.problem(service, claim.label));
            return None;
        }
        self.owners.insert(origin, service.to_owned());
        Some(claim.route)
    }
}
