#![allow(clippy::unwrap_used)]
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn instance(service: &str, id: &str, address: &str) -> Instance {
    let text = format!(
        r#"{{"version":1,"service":"{service}","id":"{id}","address":"{address}","source":"api","state":"up"}}"#
    );
    Instance::parse(text.as_bytes()).unwrap()
}

fn node(name: &str, ip: &str) -> Node {
    Node { name: name.parse().unwrap(), host: Host::Ip(ip.parse().unwrap()) }
}

fn catalog(instances: &[Instance]) -> Catalog {
    Catalog::new(instances.iter().cloned().map(Arc::new), [])
}

fn ids(instances: &[Arc<Instance>]) -> Vec<&str> {
    instances.iter().map(|instance| instance.id.as_str()).collect()
}

#[test]
fn services_and_instances_are_sorted_and_found() {
    let catalog = catalog(&[
        instance("web", "b", "a:1"),
        instance("db", "x", "a:2"),
        instance("web", "a", "a:3"),
        instance("web", "b", "a:4"),
    ]);
    let services: Vec<_> = catalog.services().map(|(name, instances)| (name.as_str(), ids(instances))).collect();
    assert_eq!(services, [("db", vec!["x"]), ("web", vec!["a", "b"])]);
    assert_eq!(catalog.instance("web", "b").unwrap().address.to_string(), "a:4", "the later record counts");
    assert!(catalog.instance("web", "c").is_none() && catalog.instances("nobody").is_empty());
}

#[test]
fn nodes_show_what_runs_on_them() {
    let said = Instance { node: Some("far".parse().unwrap()), ..instance("web", "said", "10.0.0.1:1") };
    let instances = [
        said,
        instance("web", "here", "10.0.0.1:80"),
        instance("web", "named", "a.example:80"),
        instance("web", "shared", "10.0.0.3:80"),
        instance("db", "here", "10.0.0.1:81"),
    ];
    let nodes = [node("one", "10.0.0.1"), node("two", "10.0.0.2"), node("a", "10.0.0.3"), node("b", "10.0.0.3")];
    let catalog = Catalog::new(instances.into_iter().map(Arc::new), nodes);
    let on: Vec<_> = catalog.nodes().map(|(name, instances)| (name.as_str(), ids(instances))).collect();
    let expected =
        [("a", vec![]), ("b", vec![]), ("far", vec!["said"]), ("one", vec!["here", "here"]), ("two", vec![])];
    assert_eq!(on, expected);
    let node_of = |service: &str, id: &str| catalog.instance(service, id).unwrap().node.clone();
    assert_eq!(node_of("web", "here").unwrap().as_str(), "one");
    assert_eq!(node_of("web", "shared"), None, "two nodes have this address");
    assert_eq!(node_of("web", "named"), None);
}

/// Whoever relies on `find` relies on it across updates: these answers never change.
#[test]
fn keys_belong_where_they_always_did() {
    let catalog = catalog(&["a", "b", "c"].map(|id| instance("web", id, "a:1")));
    let found = |key| catalog.find("web", key).unwrap().id.to_string();
    let owners: String = ["", "user-1", "user-2", "user-3", "user-4", "user-5", "ü"].map(found).concat();
    assert_eq!(owners, "aabcabc");
    assert!(catalog.find("nobody", "user-1").is_none());
}

#[test]
fn an_instance_that_stops_owns_no_key() {
    let stopping = Instance { state: State::Stopping, ..instance("web", "a", "a:1") };
    assert!(catalog(std::slice::from_ref(&stopping)).find("web", "k").is_none());
    let catalog = catalog(&[stopping, instance("web", "b", "a:1")]);
    assert!((0..50).all(|k| catalog.find("web", &k.to_string()).unwrap().id.as_str() == "b"));
}

#[test]
fn keys_spread_evenly() {
    let catalog = catalog(&["a", "b", "c", "d"].map(|id| instance("web", id, "a:1")));
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for k in 0..4000 {
        *counts.entry(catalog.find("web", &format!("key-{k}")).unwrap().id.as_str()).or_default() += 1;
    }
    // A thousand each is even; a fair spread leaves this range once in many billions.
    assert!(counts.len() == 4 && counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
}

proptest! {
    #[test]
    fn the_order_of_records_does_not_matter(
        all in proptest::collection::btree_set("[a-c]{1,2}", 1..12),
        key in "\\PC{0,9}",
        turn in any::<prop::sample::Index>(),
    ) {
        let instances: Vec<Instance> = all.iter().map(|id| instance("web", id, "10.0.0.1:1")).collect();
        let mut turned = instances.clone();
        turned.rotate_left(turn.index(instances.len()));
        turned.reverse();
        let (one, other) = (catalog(&instances), catalog(&turned));
        prop_assert_eq!(one.find("web", &key), other.find("web", &key));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn only_the_keys_of_what_comes_or_goes_move(
        all in proptest::collection::btree_set("[a-z]{1,3}", 2..12),
        key in "\\PC{0,9}",
        gone in any::<prop::sample::Index>(),
    ) {
        let mut instances: Vec<Instance> = all.iter().map(|id| instance("web", id, "10.0.0.1:1")).collect();
        let before = catalog(&instances);
        let gone = instances.remove(gone.index(instances.len()));
        let after = catalog(&instances);
        let owner = before.find("web", &key).unwrap();
        if *owner != gone {
            prop_assert_eq!(after.find("web", &key), Some(owner));
        }
    }
}
