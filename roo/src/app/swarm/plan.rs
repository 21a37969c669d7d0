//! The difference between what the labels say and what the store says. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use roo_docker::Snapshot;
use roo_kv::{Key, Revision};
use roo_proxy::Route;

use super::SOURCE_PREFIX;
use super::document::{self, Drawn, Refused};
use super::plain;
use crate::app::routes::Routes;
use crate::keys;

/// A label that wants an origin which somebody else's route has, or that is no valid route.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Conflict {
    pub(super) service: String,
    pub(super) label: String,
    pub(super) origin: String,
    pub(super) message: String,
}

/// What to write so that the store says what the labels say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) conflicts: Vec<Conflict>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Put { key: Key, value: Bytes, seen: Option<Revision> },
    Delete { key: Key, seen: Revision },
}

/// Compares labels and store.
pub(super) fn plan(snapshot: &Snapshot, current: &Routes) -> Plan {
    let mut plan = Plan::default();
    let mut desired: BTreeMap<Key, Desired> = BTreeMap::new();
    for (service, asked) in snapshot.routes() {
        let origin = document::origin(asked);
        let conflict = |Refused { label, message }| Conflict {
            service: service.name.clone(),
            message: format!("{label}: {message}"),
            label,
            origin: origin.clone(),
        };
        match document::draw(&service.name, asked) {
            Err(faults) => plan.conflicts.extend(faults.into_iter().map(conflict)),
            Ok(drawn) => {
                let wish = Desired { service: &service.name, label: &asked.label, drawn };
                desired.insert(keys::route(&wish.drawn.origin), wish);
            }
        }
    }
    for (key, wish) in &desired {
        let stored = current.get(key);
        match stored.map(|stored| &stored.parsed) {
            Some(Ok((_, present))) if is_of_container(present) => plan.conflicts.push(wish.conflict(
                "a container that belongs to no service has this origin; take the label from one of the two",
            )),
            Some(Ok((_, present))) if !ours(present) => plan.conflicts.push(wish.conflict(
                "a route that was written by hand has this origin and stays; remove it with `roo route rm` if the \
                 label shall decide",
            )),
            // Perhaps a newer node understands it.
            Some(Err(_)) => {
                plan.conflicts.push(wish.conflict(
                    "there is a route with this origin that this node does not understand; it stays as it is",
                ))
            }
            Some(Ok((_, present))) if *present == wish.drawn.route => {}
            _ => plan.changes.push(Change::Put {
                key: key.clone(),
                value: wish.drawn.value.clone(),
                seen: stored.map(|stored| stored.revision),
            }),
        }
    }
    for (key, stored) in current {
        let gone = matches!(&stored.parsed, Ok((_, route)) if ours(route)) && !desired.contains_key(key);
        if gone {
            plan.changes.push(Change::Delete { key: key.clone(), seen: stored.revision });
        }
    }
    plan
}

/// A route that a label asks for.
struct Desired<'a> {
    service: &'a str,
    label: &'a str,
    drawn: Drawn,
}

impl Desired<'_> {
    fn conflict(&self, message: &str) -> Conflict {
        Conflict {
            service: self.service.to_owned(),
            label: self.label.to_owned(),
            origin: self.drawn.origin.to_string(),
            message: message.to_owned(),
        }
    }
}

fn is_of_container(route: &Route) -> bool {
    route.source.as_deref().is_some_and(|source| source.starts_with(plain::SOURCE_PREFIX))
}

fn ours(route: &Route) -> bool {
    route.source.as_deref().is_some_and(|source| source.starts_with(SOURCE_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::routes::Stored;
    use roo_docker::{LabelRoute, Service, Setting, SettingValue, State, Target};
    use roo_proxy::Origin;

    fn snapshot(routes: &[(&str, &str)]) -> Snapshot {
        let label = |(host, destination): &(&str, &str)| LabelRoute {
            host: (*host).to_owned(),
            port: None,
            scheme: "https".to_owned(),
            to: vec![Target { url: (*destination).to_owned(), weight: None }],
            settings: Vec::new(),
            label: "roo.host".to_owned(),
            to_label: "roo.port".to_owned(),
        };
        let service = Service {
            id: "1".to_owned(),
            name: "shop_web".to_owned(),
            routes: routes.iter().map(label).collect(),
            network: None,
            port: None,
            tasks: Vec::new(),
        };
        Snapshot {
            state: State::Watching,
            services: vec![service],
            problems: Vec::new(),
            synced_at: None,
            tasks_of: std::collections::BTreeSet::new(),
            tasks_error: None,
        }
    }

    fn stored(routes: &[(&str, &str)]) -> Routes {
        routes
            .iter()
            .map(|(origin, value)| {
                let origin: Origin = origin.parse().expect("an origin");
                let route = Route::parse(value.as_bytes()).expect("a route");
                (keys::route(&origin), Stored { revision: Revision(7), served: None, parsed: Ok((origin, route)) })
            })
            .collect()
    }

    const OURS: &str = r#"{"to":["http://shop_web:80"],"source":"docker:shop_web"}"#;

    #[test]
    fn a_new_label_is_written_and_a_lasting_one_is_left_alone() {
        let labels = snapshot(&[("a.example", "http://shop_web:80")]);
        let plan_new = plan(&labels, &Routes::new_sync());
        assert!(matches!(plan_new.changes.as_slice(), [Change::Put { seen: None, .. }]), "{plan_new:?}");
        assert_eq!(plan(&labels, &stored(&[("a.example:https", OURS)])), Plan::default());
    }

    #[test]
    fn a_changed_label_replaces_and_a_gone_one_removes() {
        let current = stored(&[("a.example:https", OURS), ("b.example:https", OURS)]);
        let changes = plan(&snapshot(&[("a.example", "http://shop_web:81")]), &current).changes;
        assert!(
            matches!(
                changes.as_slice(),
                [Change::Put { seen: Some(Revision(7)), .. }, Change::Delete { seen: Revision(7), .. }]
            ),
            "{changes:?}"
        );
    }

    #[test]
    fn a_route_that_is_not_understood_stays_and_is_reported() {
        let error = Err("unknown field".to_owned());
        let understood = stored(&[("a.example:https", OURS)]);
        let broken = understood.iter().map(|(key, stored)| {
            (key.clone(), Stored { revision: stored.revision, served: None, parsed: error.clone() })
        });
        let current = broken.collect();
        let plan = plan(&snapshot(&[("a.example", "http://shop_web:80")]), &current);
        assert_eq!((plan.changes.len(), plan.conflicts.len()), (0, 1));
    }

    #[test]
    fn a_route_by_hand_stays_and_is_reported() {
        let current = stored(&[("a.example:https", "http://10.0.0.1:1"), ("b.example:https", "http://10.0.0.1:1")]);
        let plan = plan(&snapshot(&[("a.example", "http://shop_web:80")]), &current);
        assert_eq!(plan.changes, Vec::new());
        assert_eq!(plan.conflicts.len(), 1);
    }

    #[test]
    fn a_label_that_the_proxy_refuses_is_reported_and_takes_no_other_route_down() {
        let mut labels = snapshot(&[("a.example", "http://shop_web:80"), ("b.example", "http://shop_web:80")]);
        labels.services[0].routes[0].settings.push(Setting {
            label: "roo.balance".to_owned(),
            field: "balance".to_owned(),
            value: SettingValue::Text("random".to_owned()),
        });
        let plan = plan(&labels, &Routes::new_sync());
        assert_eq!(plan.changes.len(), 1);
        let [conflict] = plan.conflicts.as_slice() else { panic!("one conflict expected: {:?}", plan.conflicts) };
        assert_eq!((conflict.label.as_str(), conflict.origin.as_str()), ("roo.balance", "a.example:https"));
    }
}
