//! What the proxy says that it would do.

use roo_proxy::{DestinationHost, Endpoint, Explanation, Forwarding, InstanceState, Rule, Scheme, ServiceTable};
use serde_json::json;

use crate::bench::Bench;
use crate::client::{field, get, status};
use crate::upstream::{Upstream, nobody};

async fn explain(bench: &Bench, scheme: Scheme, host: &str, port: Option<u16>) -> Explanation {
    bench.control.explain(scheme, &host.parse().unwrap(), port).await
}

async fn forwarding(bench: &Bench, host: &str) -> Forwarding {
    match explain(bench, Scheme::Http, host, None).await {
        Explanation::Forward(forwarding) => *forwarding,
        other => panic!("{other:?}"),
    }
}

fn states(forwarding: &Forwarding) -> Vec<InstanceState> {
    forwarding.instances.iter().map(|instance| instance.state).collect()
}

#[tokio::test]
async fn the_picked_one_is_asked_next_however_often_that_was_told() {
    let (a, b, c) = (Upstream::echo("a").await, Upstream::echo("b").await, Upstream::echo("c").await);
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", json!({ "to": [a.url(), b.url(), c.url()] }).to_string())]);
    for turn in 0..6 {
        for _ in 0..2 {
            let told = states(&forwarding(&bench, "shop.test").await);
            let picked = told.iter().position(|state| *state == InstanceState::Picked).unwrap();
            assert_eq!(picked, turn % 3);
            assert_eq!(told.iter().filter(|state| **state == InstanceState::Ready).count(), 2);
        }
        let response = get(bench.http, "shop.test").await;
        assert_eq!(field(&response, "x-upstream"), Some(["a", "b", "c"][turn % 3]));
    }
}

#[tokio::test]
async fn why_others_are_out_is_told() {
    let good = Upstream::echo("good").await;
    let bench = Bench::start();
    let refusing = format!("http://{}", nobody().await);
    let idle = json!({ "url": "http://127.0.0.1:1", "weight": 0 });
    let route = json!({
        "to": [refusing, good.url(), "http://shop.service.roo", "http://web.service.roo", "http://none.invalid", idle],
        "connect_timeout": "2s",
        "ejection": { "backoff": "1h", "backoff_max": "1h" },
    });
    // Nobody answers at the resolver's address: a name has no address.
    let endpoint =
        Endpoint { host: DestinationHost::Address([127, 0, 0, 1].into()), port: 1, weight: 1, stopping: true };
    bench.control.set_services(ServiceTable::new([("shop".to_owned(), vec![endpoint])]));
    bench.routes(&[("shop.test:http", route.to_string())]);
    for _ in 0..2 {
        assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    }
    let told = forwarding(&bench, "shop.test").await;
    use InstanceState::{Ejected, NoInstance, NoWeight, Picked, Stopping, Unresolved};
    assert_eq!(states(&told), [Ejected, Picked, Stopping, NoInstance, Unresolved, NoWeight]);
    assert_eq!(
        told.instances.iter().map(|instance| instance.percent).collect::<Vec<_>>(),
        [50.0, 50.0, 0.0, 0.0, 0.0, 0.0]
    );
    let why = &told.instances[0].why;
    assert!(why.starts_with("ejected for upstream-refused, for another ") && why.ends_with(" s"), "{why}");
    assert_eq!((told.origin.as_str(), told.rule), ("shop.test:http", Rule::ExactName));
    assert_eq!(told.connect_timeout.as_secs(), 2);
}

#[tokio::test]
async fn when_all_are_out_one_is_picked_all_the_same() {
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", format!("http://{}", nobody().await))]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 502);
    let told = forwarding(&bench, "shop.test").await;
    assert_eq!(states(&told), [InstanceState::Picked]);
    assert!(told.instances[0].why.starts_with("all are out; ejected for upstream-refused"), "{told:?}");
}

#[tokio::test]
async fn the_rule_by_which_a_route_is_found_is_told() {
    let bench = Bench::start();
    let to = "http://127.0.0.1:1";
    bench.only_routes(&[
        ("shop.test:https", to),
        ("shop.test:8443:https", to),
        ("*.shop.test:https", to),
        ("*.shop.test:8443:https", to),
    ]);
    for (host, port, expected) in [
        ("shop.test", None, Rule::ExactName),
        ("shop.test", Some(1), Rule::ExactName),
        ("shop.test", Some(8443), Rule::ExactNameAndPort),
        ("a.shop.test", None, Rule::Wildcard),
        ("a.shop.test", Some(8443), Rule::WildcardAndPort),
    ] {
        let told = explain(&bench, Scheme::Https, host, port).await;
        assert!(matches!(&told, Explanation::Forward(told) if told.rule == expected), "{host} {port:?}: {told:?}");
    }
    let redirect = explain(&bench, Scheme::Http, "a.shop.test", None).await;
    assert_eq!(redirect, Explanation::Redirect { port: bench.https.port() });
    assert_eq!(explain(&bench, Scheme::Https, "a.b.shop.test", None).await, Explanation::UnknownHost);
}
