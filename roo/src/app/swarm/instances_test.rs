#![allow(clippy::unwrap_used)]
use roo_docker::State as WatchState;

use super::*;
use crate::app::routes::Stored;
use roo_proxy::{Origin, Route};

const LEASE: LeaseId = LeaseId(7);

fn task(id: &str, state: TaskState) -> Task {
    Task { id: id.to_owned(), address: [10, 0, 1, 9].into(), state }
}

fn snapshot(tasks: Vec<Task>) -> Snapshot {
    let service = Service {
        id: "s".to_owned(),
        name: "Shop_web".to_owned(),
        routes: Vec::new(),
        network: None,
        port: Some(8080),
        tasks,
    };
    let services = vec![service];
    Snapshot {
        state: WatchState::Watching,
        services,
        problems: Vec::new(),
        synced_at: None,
        tasks_of: BTreeSet::new(),
        tasks_error: None,
    }
}

/// What a plan writes, taken for written.
fn written(changes: &[Change], lease: LeaseId) -> Records {
    let put = |change: &Change| match change {
        Change::Put { key, instance, .. } => {
            Some((key.clone(), Record { revision: Revision(5), lease: Some(lease), instance: instance.clone() }))
        }
        Change::Delete { .. } => None,
    };
    changes.iter().filter_map(put).collect()
}

#[test]
fn what_is_as_it_was_is_not_written_again() {
    let seen = snapshot(vec![task("a", TaskState::Running), task("b", TaskState::Stopping)]);
    let changes = plan(&seen, &Records::new(), LEASE, SOURCE);
    let [Change::Put { instance: first, seen: None, .. }, Change::Put { key, instance, .. }] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((first.id.as_str(), first.state), ("b", State::Stopping), "what stops is told first");
    assert_eq!(key.to_string(), "com.roo.service:shop_web:a");
    assert_eq!((instance.address.to_string().as_str(), instance.state), ("10.0.1.9:8080", State::Up));
    assert_eq!(instance.source.as_str(), SOURCE);

    let records = written(&changes, LEASE);
    assert_eq!(plan(&seen, &records, LEASE, SOURCE), []);
    assert_eq!(plan(&seen, &records, LeaseId(8), SOURCE).len(), 2, "they hang on another lease, which nobody keeps");
    let gone = plan(&snapshot(vec![task("a", TaskState::Running)]), &records, LEASE, SOURCE);
    assert!(matches!(&gone[..], [Change::Delete { seen: Revision(5), .. }]), "{gone:?}");
}

#[test]
fn what_stops_does_not_come_back() {
    let seen = snapshot(vec![task("a", TaskState::Running)]);
    let mut records = written(&plan(&seen, &Records::new(), LEASE, SOURCE), LEASE);
    for record in records.values_mut() {
        record.instance.state = State::Stopping;
    }
    assert_eq!(plan(&seen, &records, LEASE, SOURCE), [], "its own engine has seen more than the list");
}

#[test]
fn instances_of_other_doors_are_left_alone() {
    let seen = snapshot(vec![task("a", TaskState::Running)]);
    let [Change::Put { key, instance, .. }] = &plan(&seen, &Records::new(), LEASE, SOURCE)[..] else {
        panic!("one change")
    };
    let entry = |instance: &Instance| Entry {
        value: instance.to_json().into(),
        create_revision: Revision(1),
        mod_revision: Revision(1),
        version: 1,
        lease: None,
    };
    let put = |instance: &Instance| Event::Put { key: key.clone(), entry: entry(instance), previous: None };
    let batch = |instance| Batch { reset: true, events: vec![put(instance)], revision: Revision(1) };
    let mut records = Records::new();
    apply(&mut records, batch(instance), SOURCE);
    assert_eq!(records.len(), 1);
    apply(&mut records, batch(&Instance { source: Source::api(), ..instance.clone() }), SOURCE);
    assert!(records.is_empty());
}

#[test]
fn the_tasks_of_services_that_routes_lead_to_are_wanted() {
    let stored = |to: &str| {
        let origin: Origin = "a.example:https".parse().unwrap();
        Stored { revision: Revision(1), served: None, parsed: Ok((origin, Route::parse(to.as_bytes()).unwrap())) }
    };
    let routes = [
        ("a", "http://shop_web:80"),
        ("b", "http://tasks.Shop_Next.:80"),
        ("c", "http://api.service.roo"),
        ("d", "http://db.example:80"),
        ("e", "http://10.0.0.1"),
    ];
    let routes: Routes = routes.iter().map(|(key, to)| (key.parse().unwrap(), stored(to))).collect();
    assert_eq!(led_to(&routes).into_iter().collect::<Vec<_>>(), ["api", "shop_next", "shop_web"]);
}
