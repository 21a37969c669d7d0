//! Where upstreams may be, and where not.

use std::path::Path;

use roo_proxy::{Config, Event};
use tokio::net::UnixListener;

use crate::bench::{Bench, SOON};
use crate::client::{field, get, status};
use crate::names::Dns;
use crate::upstream::Upstream;

/// Status and reason of `GET /`.
async fn outcome(bench: &Bench, host: &str) -> (u16, Option<String>) {
    let response = get(bench.http, host).await;
    (status(&response), field(&response, "roo-error").map(str::to_owned))
}

fn forbidden() -> (u16, Option<String>) {
    (502, Some("upstream-forbidden".into()))
}

fn listen(path: &Path) -> Upstream {
    let listener = UnixListener::bind(path).unwrap();
    Upstream::echo_on_socket(listener, "socket")
}

#[tokio::test]
async fn a_socket_of_this_machine_is_an_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let upstream = listen(&path);
    let bench = Bench::with(Config { unix_upstreams: vec![directory.path().into()], ..Config::default() });
    bench.routes(&[("shop.test:http", format!("unix:{}:/base", path.display()))]);
    for _ in 0..2 {
        let response = get(bench.http, "shop.test").await;
        assert_eq!((status(&response), field(&response, "x-upstream")), (200, Some("socket")));
        assert!(response.contains(r#""uri":"/base/""#), "{response}");
        assert!(response.contains(&format!(r#""x-origin-host":"unix:{}""#, path.display())), "{response}");
    }
    assert_eq!(upstream.connections(), 1, "it is kept");
    bench.routes(&[("shop.test:http", format!("unix:{}", directory.path().join("gone.sock").display()))]);
    assert_eq!(outcome(&bench, "shop.test").await, (502, Some("upstream-refused".into())));
}

#[tokio::test]
async fn a_socket_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let upstream = listen(&path);
    let mut bench = Bench::with(Config { unix_upstreams: vec![directory.path().join("app")], ..Config::default() });
    bench.routes(&[("shop.test:http", format!("unix:{}", path.display()))]);
    assert_eq!(outcome(&bench, "shop.test").await, forbidden());
    assert_eq!(upstream.connections(), 0);
    let told = tokio::time::timeout(SOON, bench.events.next()).await.unwrap();
    let Some(Event::UpstreamForbidden { origin, address, .. }) = told else { panic!("{told:?}") };
    assert_eq!((&*origin, address), ("shop.test:http", format!("unix:{}", path.display())));
}

#[tokio::test]
async fn a_name_that_leads_to_the_unspecified_address_is_refused_unless_the_route_allows_it() {
    let dns = Dns::start().await;
    // The system takes connections to 0.0.0.0 for connections to itself: without the check this upstream would answer.
    let upstream = Upstream::echo("a").await;
    let port = upstream.address.port();
    dns.set("rebound.test.", &[[0, 0, 0, 0]]);
    let bench = dns.bench();
    let to = format!("http://rebound.test:{port}");
    let allowed = serde_json::json!({ "to": to, "allow_addresses": ["0.0.0.0"] }).to_string();
    bench.routes(&[("open.test:http", allowed), ("shut.test:http", to)]);
    assert_eq!(outcome(&bench, "shut.test").await, forbidden());
    assert_eq!(outcome(&bench, "open.test").await, (200, None));
    // The connection that the other has left is not this route's.
    assert_eq!(outcome(&bench, "shut.test").await, forbidden());
    assert_eq!(outcome(&bench, "open.test").await, (200, None));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_address_is_looked_at_whenever_it_changes() {
    let dns = Dns::start().await;
    let upstream = Upstream::echo("a").await;
    dns.set("rebound.test.", &[[127, 0, 0, 1]]);
    let bench = dns.bench();
    bench.routes(&[("shop.test:http", format!("http://rebound.test:{}", upstream.address.port()))]);
    assert_eq!(outcome(&bench, "shop.test").await, (200, None));
    dns.set("rebound.test.", &[[169, 254, 169, 254]]);
    let changed = async { while outcome(&bench, "shop.test").await != forbidden() {} };
    tokio::time::timeout(SOON, changed).await.expect("the new address should be refused");
}

#[tokio::test]
async fn another_address_of_the_name_serves_instead() {
    let dns = Dns::start().await;
    let upstream = Upstream::echo("a").await;
    dns.set("both.test.", &[[169, 254, 169, 254], [127, 0, 0, 1]]);
    let bench = dns.bench();
    bench.routes(&[("shop.test:http", format!("http://both.test:{}", upstream.address.port()))]);
    for _ in 0..4 {
        assert_eq!(outcome(&bench, "shop.test").await, (200, None));
    }
}

#[tokio::test]
async fn the_proxy_does_not_ask_itself() {
    let bench = Bench::start();
    for own in [bench.http, bench.https] {
        bench.routes(&[("shop.test:http", format!("http://{own}"))]);
        assert_eq!(outcome(&bench, "shop.test").await, forbidden());
    }
}

#[tokio::test]
async fn other_listeners_of_the_process_are_asked_only_where_the_route_allows_it() {
    let api = Upstream::echo("api").await;
    let bench = Bench::with(Config { other_listeners: vec![api.address], ..Config::default() });
    bench.routes(&[("shop.test:http", api.url())]);
    assert_eq!(outcome(&bench, "shop.test").await, forbidden());
    assert_eq!(api.connections(), 0);
    bench.routes(&[(
        "shop.test:http",
        serde_json::json!({ "to": api.url(), "allow_addresses": ["127.0.0.0/8"] }).to_string(),
    )]);
    assert_eq!(outcome(&bench, "shop.test").await, (200, None));
}
