#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A record as version 1 has always been written.
const RELEASED: &str = include_str!("../fixtures/instance-v1.json");

fn released() -> Instance {
    Instance {
        service: "shop".parse().unwrap(),
        id: "10.0.0.7:8080".parse().unwrap(),
        address: "10.0.0.7:8080".parse().unwrap(),
        node: Some("00abcdef01234567".parse().unwrap()),
        source: Source::api(),
        state: State::Stopping,
        weight: 3.try_into().unwrap(),
        metadata: Metadata::try_new(BTreeMap::from([("zone".into(), "a \"b\"".into())])).unwrap(),
        ttl: Some(Duration::from_secs(15)),
    }
}

#[test]
fn a_released_record_is_read_and_written_as_it_was() {
    assert_eq!(Instance::parse(RELEASED.as_bytes()).unwrap(), released());
    assert_eq!(released().to_json(), RELEASED.trim_end());
}

#[test]
fn what_is_absent_has_its_default() {
    let least = br#"{"version":1,"service":"shop","id":"a","address":"a.example:80","source":"gossip"}"#;
    let instance = Instance::parse(least).unwrap();
    assert_eq!((instance.state, instance.weight.get(), instance.ttl), (State::Up, 1, None));
    assert_eq!((instance.node, instance.metadata), (None, Metadata::default()));
}

#[test]
fn unknown_fields_are_skipped_and_newer_versions_refused() {
    let newer = RELEASED.replacen("\"id\"", "\"health\":{\"a\":[1]},\"id\"", 1);
    assert_eq!(Instance::parse(newer.as_bytes()).unwrap(), released());
    let other = RELEASED.replacen("\"version\":1", "\"version\":2", 1).replacen("\"shop\"", "{}", 1);
    assert_eq!(Instance::parse(other.as_bytes()), Err(RecordError::Version { version: 2 }));
}

#[test]
fn a_bad_record_names_its_fault() {
    for (from, to, fault) in [
        ("\"version\":1,", "", "version"),
        ("\"address\":\"10.0.0.7:8080\",", "", "address"),
        ("\"address\":\"10.0.0.7:8080\"", "\"address\":\"10.0.0.7\"", "no port"),
        ("\"shop\"", "\"a.b\"", "the name of a service"),
        ("\"weight\":3", "\"weight\":0", "1 to 1000"),
        ("\"weight\":3", "\"weight\":1001", "1 to 1000"),
        ("\"stopping\"", "\"gone\"", "gone"),
        ("}", "", "EOF"),
    ] {
        let text = RELEASED.replacen(from, to, 1);
        let error = Instance::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(fault), "{text}: {error}");
    }
    let long = vec![b' '; RECORD_BYTES_MAX + 1];
    assert_eq!(Instance::parse(&long), Err(RecordError::TooLong { bytes: RECORD_BYTES_MAX + 1 }));
}

fn instances() -> impl Strategy<Value = Instance> {
    let names = ("[A-Za-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", "[a-zA-Z0-9][-a-zA-Z0-9._:@\\[\\]]{0,127}");
    let host = prop_oneof![
        "[1-9]{1,2}(\\.[1-9][0-9]?){3}",
        "\\[2001:db8::[0-9a-f]{1,4}\\]",
        "[a-z]{1,9}(_[a-z]{1,9})?(\\.[a-z]{1,9}){0,2}\\.?",
    ];
    let rest = (
        proptest::option::of("[a-zA-Z0-9._-]{1,64}"),
        "[a-z][a-z0-9-]{0,31}",
        any::<bool>(),
        1u64..=1000,
        proptest::collection::btree_map("[^\\p{C}]{1,16}", "[^\\p{C}]{0,128}", 0..8),
        proptest::option::of(any::<u32>()),
    );
    (names, host, 1u16.., rest).prop_map(|((service, id), host, port, (node, source, up, weight, metadata, ttl))| {
        Instance {
            service: service.parse().unwrap(),
            id: id.parse().unwrap(),
            address: format!("{host}:{port}").parse().unwrap(),
            node: node.map(|node| node.parse().unwrap()),
            source: source.parse().unwrap(),
            state: if up { State::Up } else { State::Stopping },
            weight: weight.try_into().unwrap(),
            metadata: Metadata::try_new(metadata).unwrap(),
            ttl: ttl.map(|ms| Duration::from_millis(ms.into())),
        }
    })
}

proptest! {
    #[test]
    fn any_instance_survives_the_round_trip(instance in instances()) {
        let text = instance.to_json();
        prop_assert!(text.len() <= RECORD_BYTES_MAX);
        let read = Instance::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(read.to_json(), text);
        prop_assert_eq!(read, instance);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
        let _ = Instance::parse(&bytes);
        let _ = Instance::parse(&RELEASED.as_bytes()[..cut.min(RELEASED.len())]);
    }
}

#[test]
fn the_largest_record_that_may_be_written_may_be_read() {
    let name = |k: usize| format!("{k:02}{}", "\"".repeat(62));
    let metadata = (0..64).map(|k| (name(k), "\\".repeat(512))).collect();
    let instance = Instance { metadata: Metadata::try_new(metadata).unwrap(), ..released() };
    assert_eq!(Instance::parse(instance.to_json().as_bytes()).unwrap(), instance);
}
