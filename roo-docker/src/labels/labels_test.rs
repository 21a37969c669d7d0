#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::snapshot::{SettingValue, Severity, Target};

/// Labels from `name=value` lines.
fn labels(lines: &[&str]) -> BTreeMap<String, String> {
    let pair = |line: &&str| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    lines.iter().map(pair).collect()
}

fn parse(lines: &[&str]) -> (Vec<LabelRoute>, Vec<Problem>) {
    parse_labels(&labels(lines), &BTreeMap::new(), &[])
}

fn parse_labels(
    service: &BTreeMap<String, String>,
    container: &BTreeMap<String, String>,
    published: &[u16],
) -> (Vec<LabelRoute>, Vec<Problem>) {
    parse_with(service, container, published, Exposed::NotAsked)
}

fn parse_with(
    service: &BTreeMap<String, String>,
    container: &BTreeMap<String, String>,
    published: &[u16],
    exposed: Exposed,
) -> (Vec<LabelRoute>, Vec<Problem>) {
    read("shop_web", service, container, &Ports { published: published.to_vec(), exposed })
}

/// Routes as `origin -> destination` lines.
fn lines(routes: &[LabelRoute]) -> Vec<String> {
    let to = |target: &Target| match target.weight {
        Some(weight) => format!("{} {weight}", target.url),
        None => target.url.clone(),
    };
    let told = |route: &LabelRoute| {
        format!("{} -> {}", route.origin(), route.to.iter().map(to).collect::<Vec<_>>().join(", "))
    };
    routes.iter().map(told).collect()
}

#[track_caller]
fn expect(lines_in: &[&str], wanted: &[&str]) {
    let (routes, problems) = parse(lines_in);
    assert_eq!(lines(&routes), wanted, "for {lines_in:?}");
    assert_eq!(problems, [], "for {lines_in:?}");
}

/// One problem, with this label, whose message holds all of `words`; returns the routes that were kept.
#[track_caller]
fn expect_problem(lines_in: &[&str], label: &str, words: &[&str]) -> Vec<String> {
    let (routes, problems) = parse(lines_in);
    let [problem] = &problems[..] else { panic!("one problem expected for {lines_in:?}, got {problems:#?}") };
    assert_eq!((problem.service.as_str(), problem.label.as_str()), ("shop_web", label));
    for word in words {
        assert!(problem.message.contains(word), "'{word}' in '{}'", problem.message);
    }
    lines(&routes)
}

#[test]
fn the_labels_of_the_original_are_understood() {
    let minimal = ["OriginHosts=test.sfpl.io", "DestinationHost=test_test", "DestinationPort=80"];
    expect(&minimal, &["https://test.sfpl.io -> http://test_test:80"]);
    expect(
        &[
            "OriginHosts= b.example ,A.example., ",
            "OriginHost=c.example",
            "OriginScheme=HTTP",
            "OriginPort=8080",
            "DestinationHost=tasks.test_test",
            "DestinationPort=9001",
            "DestinationScheme=https",
        ],
        &[
            "http://a.example:8080 -> https://tasks.test_test:9001",
            "http://b.example:8080 -> https://tasks.test_test:9001",
            "http://c.example:8080 -> https://tasks.test_test:9001",
        ],
    );
}

#[test]
fn a_default_port_is_dropped() {
    for (scheme, port, origin) in [
        ("https", "443", "https://a.example"),
        ("http", "80", "http://a.example"),
        ("https", "80", "https://a.example:80"),
        ("http", "443", "http://a.example:443"),
    ] {
        let scheme = format!("OriginScheme={scheme}");
        let port = format!("OriginPort={port}");
        let wanted = format!("{origin} -> http://x:1");
        expect(&["OriginHost=a.example", &scheme, &port, "DestinationHost=x", "DestinationPort=1"], &[&wanted]);
    }
}

#[test]
fn the_key_form_is_understood() {
    expect(
        &[
            "com.roo.host:shop.example:https=http://tasks.cool_game:9001",
            "com.roo.host:Shop.example:8080:http=https://10.0.0.7/base",
            "com.roo.host:*.shop.example:443:https=http://[::1]:80",
        ],
        &[
            "https://*.shop.example -> http://[::1]:80",
            "https://shop.example -> http://tasks.cool_game:9001",
            "http://shop.example:8080 -> https://10.0.0.7/base",
        ]
        .map(String::from)
        .each_ref()
        .map(String::as_str),
    );
}

#[test]
fn native_labels_lead_to_the_tasks_of_the_service_itself() {
    expect(
        &["roo.host=shop.example, *.shop.example,bücher.example:8443", "roo.port=8080"],
        &[
            "https://*.shop.example -> http://tasks.shop_web:8080",
            "https://shop.example -> http://tasks.shop_web:8080",
            "https://xn--bcher-kva.example:8443 -> http://tasks.shop_web:8080",
        ],
    );
    expect(
        &["roo.host=shop.example", "roo.port=8443", "roo.scheme=https"],
        &["https://shop.example -> https://tasks.shop_web:8443"],
    );
}

#[test]
fn the_only_published_port_is_taken_and_several_are_not_guessed_from() {
    let host = labels(&["roo.host=shop.example"]);
    let (routes, problems) = parse_labels(&host, &BTreeMap::new(), &[3000]);
    assert_eq!(
        (lines(&routes), problems.len()),
        (vec!["https://shop.example -> http://tasks.shop_web:3000".into()], 0)
    );

    for (published, words) in [(vec![], "no port"), (vec![80, 9000], "the ports 80, 9000")] {
        let (routes, problems) = parse_labels(&host, &BTreeMap::new(), &published);
        assert!(routes.is_empty());
        assert_eq!(problems[0].label, "roo.port");
        assert!(problems[0].message.contains(words) && problems[0].message.contains("roo.port: 80"));
    }
}

#[test]
fn labels_of_the_service_win_over_those_of_the_container_and_a_difference_is_told() {
    let service = labels(&["OriginHosts=new.example", "DestinationPort=80", "com.docker.stack=x"]);
    let container =
        labels(&["OriginHosts=old.example", "DestinationPort= 80", "DestinationHost=test_test", "com.docker.stack=y"]);
    let (routes, problems) = parse_labels(&service, &container, &[]);
    assert_eq!(lines(&routes), ["https://new.example -> http://test_test:80"]);
    let [problem] = &problems[..] else { panic!("one problem expected, got {problems:#?}") };
    assert_eq!(problem.label, "OriginHosts");
    assert!(problem.message.contains("'old.example'") && problem.message.contains("'new.example'"));
}

#[test]
fn labels_of_other_programs_are_none_of_our_business() {
    expect(&["traefik.enable=true", "com.docker.stack.namespace=shop", "origin=x", "room.host=y", "roo=z"], &[]);
}

#[test]
fn a_service_can_be_switched_off() {
    expect(&["roo.enable=false", "roo.host=shop.example", "roo.port=80"], &[]);
    expect(
        &["roo.enable=True", "roo.host=a.example", "roo.port=80"],
        &["https://a.example -> http://tasks.shop_web:80"],
    );
    let kept = expect_problem(
        &["roo.enable=flase", "roo.host=a.example", "roo.port=80"],
        "roo.enable",
        &["'flase'", "true or false", "no routes"],
    );
    assert!(kept.is_empty());
}

#[test]
fn half_set_labels_are_told_with_what_is_missing() {
    let kept = expect_problem(
        &["OriginHosts=a.example", "DestinationHost=x_y"],
        "DestinationPort",
        &["missing", "OriginHosts", "DestinationPort: 80"],
    );
    assert!(kept.is_empty());
    expect_problem(&["OriginHosts=a.example", "DestinationPort=80"], "DestinationHost", &["missing", "stack_service"]);
    expect_problem(&["DestinationHost=x", "DestinationPort=80"], "OriginHosts", &["missing", "'DestinationHost'"]);
    expect_problem(&["roo.port=80"], "roo.host", &["missing", "'roo.port'", "shop.example"]);
    expect_problem(&["OriginHosts= ", "DestinationHost=x", "DestinationPort=80"], "OriginHosts", &["empty"]);
}

#[test]
fn a_wrong_value_is_named_with_the_fix() {
    let with = |line: &'static str| {
        let mut all = vec!["OriginHost=a.example", "DestinationHost=x", "DestinationPort=80"];
        let name = line.split_once('=').unwrap().0;
        all.retain(|other| other.split_once('=').unwrap().0 != name);
        all.push(line);
        all
    };
    for (line, words) in [
        ("DestinationPort=http", ["'http'", "1 to 65535"]),
        ("DestinationPort=0", ["'0'", "1 to 65535"]),
        ("DestinationPort=65536", ["'65536'", "1 to 65535"]),
        ("DestinationPort=+80", ["'+80'", "1 to 65535"]),
        ("OriginPort=-1", ["'-1'", "1 to 65535"]),
        ("OriginScheme=ftp", ["'ftp'", "https or http"]),
        ("DestinationScheme=h2c", ["'h2c'", "https or http"]),
        ("DestinationHost=http://x", ["'http://x'", "name alone"]),
        ("DestinationHost=x:80", ["'x:80'", "DestinationPort"]),
        ("DestinationHost=a b", ["'a b'", "shop_web"]),
        ("OriginHost=https://a.example/", ["'https://a.example/'", "shop.example"]),
        ("OriginHost=a..example", ["'a..example'", "empty"]),
        ("OriginHost=a.*.example", ["'a.*.example'", "star"]),
        ("OriginHost=a b.example", ["'a b.example'", "letters"]),
        ("OriginHost=10.0.0.256", ["'10.0.0.256'", "address"]),
        ("OriginHost=[::1]", ["'[::1]'", "IPv6"]),
        ("OriginHost=::1:80", ["'::1:80'", "IPv6"]),
        ("OriginHost=a.example:99999", ["'99999'", "1 to 65535"]),
    ] {
        let label = line.split_once('=').unwrap().0;
        let kept = expect_problem(&with(line), label, &words);
        assert!(kept.is_empty(), "{line} left {kept:?}");
    }
}

#[test]
fn a_wrong_key_form_is_named_with_the_fix() {
    for (label, value, words) in [
        ("com.roo.host:a.example", "http://x", "scheme is missing"),
        ("com.roo.host:a.example:ws", "http://x", "'ws'"),
        ("com.roo.host::https", "http://x", "is no host"),
        ("com.roo.host:a.example:https", "x:80", "the scheme must be"),
        ("com.roo.host:a.example:https", "ftp://x", "the scheme must be"),
        ("com.roo.host:a.example:https", "http://", "empty host"),
        ("com.roo.host:a.example:https", "http:x", "must follow"),
        ("com.roo.host:a.example:https", "http:///x", "must follow"),
        ("com.roo.host:a.example:https", "http://x:0", "port 0"),
        ("com.roo.host:a.example:https", "http://u:p@x", "user name"),
        ("com.roo.host:a.example:https", "http://x/?q", "query"),
        ("com.roo.host:a.example:https", "http://x\\y", "backslash"),
        ("com.roo.host:a.example:https", "http://x^y", "invalid"),
        ("com.roo.host:a.example:https", "", "empty"),
    ] {
        let line = format!("{label}={value}");
        let service = BTreeMap::from([(label.to_owned(), value.to_owned())]);
        let (routes, problems) = parse_labels(&service, &BTreeMap::new(), &[]);
        assert!(routes.is_empty(), "{line}");
        assert!(problems.len() == 1 && problems[0].message.contains(words), "{line}: {problems:#?}");
    }
}

#[test]
fn one_bad_host_does_not_disturb_the_others() {
    let kept = expect_problem(&["roo.host=a.example,b_.*,c.example", "roo.port=80"], "roo.host", &["'b_.*'"]);
    assert_eq!(
        kept,
        ["https://a.example -> http://tasks.shop_web:80", "https://c.example -> http://tasks.shop_web:80"]
    );
}

#[test]
fn unknown_labels_are_told_with_the_nearest_name() {
    for (label, words) in [
        ("roo.hots", "'roo.host'"),
        ("roo.hosts", "'roo.host'"),
        ("Roo.Host", "'roo.host'"),
        ("originhosts", "'OriginHosts'"),
        ("destinationport", "'DestinationPort'"),
        ("roo.something.else", "known are roo.host"),
        ("roo.balnce", "'roo.balance'"),
        ("roo.routes.admin.hots", "'roo.routes.admin.host'"),
        ("roo.routes.host", "'roo.routes.<name>.host'"),
        ("roo.routes.a.enable", "known are roo.host"),
        ("roo.routes.a.sticky", "not supported"),
        ("roo.path", "not supported"),
        ("com.roo.hosts:a:https", "'com.roo.host:<host>:<scheme>'"),
    ] {
        expect_problem(&[&format!("{label}=x")], label, &[words, "ignored"]);
    }
}

#[test]
fn families_may_agree_but_not_contradict_each_other() {
    let twice =
        ["com.roo.host:a.example:https=http://x_y:80", "OriginHosts=a.example,a.example", "DestinationHost=x_y"];
    expect(&[&twice[..], &["DestinationPort=80"]].concat(), &["https://a.example -> http://x_y:80"]);

    let kept = expect_problem(
        &[&twice[..], &["DestinationPort=81"]].concat(),
        "OriginHosts",
        &["https://a.example", "http://x_y:81", "'com.roo.host:a.example:https'", "http://x_y:80"],
    );
    assert_eq!(kept, ["https://a.example -> http://x_y:80"]);
}

#[test]
fn the_list_of_hosts_is_bounded() {
    let hosts: Vec<String> = (0..2000).map(|n| format!("h{n}.example")).collect();
    let line = format!("roo.host={}", hosts.join(","));
    let kept = expect_problem(&[&line, "roo.port=80"], "roo.host", &["1000 hosts"]);
    assert_eq!(kept.len(), 1000);
}

#[test]
fn several_routes_of_a_service_share_nothing() {
    expect(
        &[
            "roo.host=shop.example",
            "roo.port=80",
            "roo.routes.admin.host=admin.example, ops.example",
            "roo.routes.admin.port=9000",
            "roo.routes.admin.scheme=h2c",
            "roo.routes.plain.host=plain.example",
            "roo.routes.plain.origin.scheme=http, https",
            "roo.routes.plain.port=81",
        ],
        &[
            "https://admin.example -> h2c://tasks.shop_web:9000",
            "https://ops.example -> h2c://tasks.shop_web:9000",
            "http://plain.example -> http://tasks.shop_web:81",
            "https://plain.example -> http://tasks.shop_web:81",
            "https://shop.example -> http://tasks.shop_web:80",
        ],
    );
    let kept = expect_problem(
        &["roo.host=shop.example", "roo.port=80", "roo.routes.admin.port=9000"],
        "roo.routes.admin.host",
        &["missing", "'roo.routes.admin.port'", "roo.routes.admin.host: shop.example"],
    );
    assert_eq!(kept, ["https://shop.example -> http://tasks.shop_web:80"]);
    expect_problem(
        &["roo.host=a.example", "roo.port=80", "roo.routes.b.host=a.example", "roo.routes.b.port=81"],
        "roo.routes.b.host",
        &["http://tasks.shop_web:81", "'roo.host'", "http://tasks.shop_web:80"],
    );
}

#[test]
fn destinations_may_be_named_with_weights() {
    expect(
        &["roo.host=a.example", "roo.to=http://tasks.shop_web:80 90 , h2c://10.0.0.1 10"],
        &["https://a.example -> http://tasks.shop_web:80 90, h2c://10.0.0.1 10"],
    );
    for wrong in ["http://x 101", "http://x 1 2", "shop_web", "http://x,,", "http://x heavy"] {
        let line = format!("roo.to={wrong}");
        assert!(expect_problem(&["roo.host=a.example", &line], "roo.to", &["weight from 0 to 100"]).is_empty());
    }
    let kept = expect_problem(
        &["roo.host=a.example", "roo.to=http://x:1", "roo.port=80"],
        "roo.port",
        &["'roo.to'", "remove"],
    );
    assert_eq!(kept, ["https://a.example -> http://x:1"]);
}

#[test]
fn settings_become_fields_of_the_document() {
    let (routes, problems) = parse(&[
        "roo.host=a.example",
        "roo.port=80",
        "roo.balance=latency",
        "roo.ejection.percent-max=20",
        "roo.tls.insecure=Yes",
        "roo.allow-addresses=10.0.0.1, fe80::1,",
    ]);
    assert_eq!(problems, []);
    let said: Vec<(&str, &SettingValue)> = routes[0].settings.iter().map(|s| (s.field.as_str(), &s.value)).collect();
    assert_eq!(
        said,
        [
            ("balance", &SettingValue::Text("latency".to_owned())),
            ("ejection.percent_max", &SettingValue::Number(20)),
            ("allow_addresses", &SettingValue::List(vec!["10.0.0.1".to_owned(), "fe80::1".to_owned()])),
            ("tls.insecure", &SettingValue::Flag(true)),
        ]
    );
    for (line, label, word) in [
        ("roo.tls.insecure=perhaps", "roo.tls.insecure", "true or false"),
        ("roo.ejection.failures=many", "roo.ejection.failures", "whole number"),
        ("roo.balance=", "roo.balance", "empty"),
    ] {
        assert!(expect_problem(&["roo.host=a.example", "roo.port=80", line], label, &[word]).is_empty());
    }
}

#[test]
fn the_only_exposed_port_is_taken_and_a_published_one_goes_before() {
    let host = labels(&["roo.host=a.example"]);
    let parse = |published: &[u16], exposed| parse_with(&host, &BTreeMap::new(), published, exposed);
    let (routes, problems) = parse(&[], Exposed::Ports(vec![3000]));
    assert_eq!(
        (lines(&routes), problems),
        (vec!["https://a.example -> http://tasks.shop_web:3000".to_owned()], vec![])
    );
    let (routes, _) = parse(&[80], Exposed::Ports(vec![3000]));
    assert_eq!(lines(&routes), ["https://a.example -> http://tasks.shop_web:80"]);

    for (exposed, word) in [
        (Exposed::Ports(vec![]), "its image exposes no port"),
        (Exposed::Ports(vec![80, 443]), "its image exposes the ports 80, 443"),
        (Exposed::Unknown("its image x is not on this manager".to_owned()), "x is not on this manager"),
    ] {
        let (routes, problems) = parse(&[], exposed);
        assert!(routes.is_empty());
        assert_eq!((problems[0].label.as_str(), problems[0].severity), ("roo.port", Severity::Error));
        assert!(problems[0].message.contains(word), "{}", problems[0].message);
    }
    let (routes, problems) = parse(&[], Exposed::Unseen);
    assert_eq!(lines(&routes), ["https://a.example -> http://tasks.shop_web:80"]);
    assert_eq!(problems[0].severity, Severity::Warning);
}

#[test]
fn a_port_that_the_image_does_not_expose_is_doubted() {
    let parse = |exposed: Vec<u16>| {
        let lines = labels(&["roo.host=a.example", "roo.port=8080"]);
        parse_with(&lines, &BTreeMap::new(), &[], Exposed::Ports(exposed))
    };
    let (routes, problems) = parse(vec![80]);
    assert_eq!(lines(&routes), ["https://a.example -> http://tasks.shop_web:8080"]);
    assert_eq!((problems[0].label.as_str(), problems[0].severity), ("roo.port", Severity::Warning));
    assert!(problems[0].message.contains("8080") && problems[0].message.contains("the port 80 alone"));
    assert!(parse(vec![]).1.is_empty() && parse(vec![80, 8080]).1.is_empty());
}

/// Names that matter, names that nearly do, and noise.
fn any_label() -> impl Strategy<Value = String> {
    let names: Vec<&str> = native::names().chain(original::ALL).chain(native::UNSUPPORTED).collect();
    prop_oneof![
        4 => prop::sample::select(names).prop_map(str::to_owned),
        2 => "roo\\.routes\\.[a-z-]{0,3}\\.(host|port|to|balance|hots|path)",
        2 => "com\\.roo\\.host:[a-z*.\\[\\]:0-9-]{0,20}:(http|https|x)?",
        1 => "(roo\\.|com\\.roo\\.|)\\PC{0,20}",
    ]
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}\\.example(,[a-z*.:0-9]{0,12}){0,3}",
        "[0-9]{0,6}",
        "(http|https|ftp)://[a-z_.]{0,10}(:[0-9]{0,6})?(/[a-z]{0,4})?",
        "(true|false|http|https)",
        "\\PC{0,40}",
    ]
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(any_label(), any_value(), 0..8)
}

proptest! {
    /// Whatever the labels say: no panic, and every route that comes out is one that can be served.
    #[test]
    fn routes_are_always_well_formed(
        service in any_labels(),
        container in any_labels(),
        ports in prop::collection::vec(1u16.., 0..3),
    ) {
        let (routes, problems) = parse_labels(&service, &container, &ports);
        for route in &routes {
            prop_assert_eq!(&origin::HostPort::parse(&route.host).unwrap().host, &route.host);
            prop_assert!(!matches!((route.scheme.as_str(), route.port), ("https", Some(443)) | ("http", Some(80)) | (_, Some(0))));
            prop_assert!(matches!(route.scheme.as_str(), "http" | "https"));
            prop_assert!(!route.to.is_empty());
            if route.to_label != route.label && !route.to_label.ends_with(".to") {
                prop_assert!(url::Url::parse(&route.to[0].url).is_ok(), "{:?}", route.to);
            }
        }
        let mut origins: Vec<String> = routes.iter().map(LabelRoute::origin).collect();
        let all = origins.len();
        origins.sort();
        origins.dedup();
        prop_assert_eq!(origins.len(), all, "an origin came out twice");
        for problem in &problems {
            prop_assert!(problem.message.starts_with(&problem.label));
            prop_assert!(service.contains_key(&problem.label) || container.contains_key(&problem.label)
                || problem.message.contains("missing"));
        }
    }

    /// An origin that is accepted reads back as itself.
    #[test]
    fn origins_survive_a_round_trip(host in "(\\*\\.)?[a-z0-9_]{1,10}(\\.[a-z]{1,5}){1,3}", port in prop::option::of(1u16..)) {
        let text = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        let parsed = origin::HostPort::parse(&text).unwrap();
        prop_assert_eq!((&parsed.host, parsed.port), (&host, port));
    }
}
