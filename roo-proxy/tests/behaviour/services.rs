//! Destinations that name a service.

use std::net::SocketAddr;
use std::sync::Arc;

use roo_proxy::{Config, DestinationHost, Endpoint, ServiceTable};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::bench::{Bench, SOON, loopback, until};
use crate::client::{Raw, field, full, get, status};
use crate::upstream::{Upstream, nobody};

fn endpoint(address: SocketAddr, weight: u16) -> Endpoint {
    Endpoint { host: DestinationHost::Address(address.ip()), port: address.port(), weight, stopping: false }
}

impl Bench {
    fn service(&self, name: &str, endpoints: Vec<Endpoint>) {
        self.control.set_services(ServiceTable::new([(name.to_owned(), endpoints)]));
    }
}

async fn who(bench: &Bench) -> String {
    let response = get(bench.http, "shop.test").await;
    field(&response, "x-upstream").unwrap_or_else(|| panic!("{response}")).to_owned()
}

#[tokio::test]
async fn a_services_instances_share_its_requests_on_their_own_ports() {
    let (one, two) = (Upstream::echo("one").await, Upstream::echo("two").await);
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", "http://shop.service.roo/base")]);
    bench.service("shop", vec![endpoint(one.address, 1), endpoint(two.address, 3)]);
    let mut names = Vec::new();
    for _ in 0..8 {
        names.push(who(&bench).await);
    }
    assert_eq!(names.iter().filter(|name| *name == "two").count(), 6, "{names:?}");
    let response = get(bench.http, "shop.test").await;
    assert!(response.contains(r#""uri":"/base/""#) && response.contains(r#""x-origin-host":"shop.service.roo""#));
}

#[tokio::test]
async fn a_port_in_the_url_is_that_of_all_instances() {
    let upstream = Upstream::echo("a").await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", format!("http://shop.service.roo:{}", upstream.address.port()))]);
    bench.service("shop", vec![endpoint(([127, 0, 0, 1], 1).into(), 1)]);
    assert_eq!(who(&bench).await, "a");
}

#[tokio::test]
async fn a_service_without_an_instance_is_503_and_never_asked_of_the_dns() {
    let silent = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let bench = Bench::with(Config { resolver: Some(silent.local_addr().unwrap()), ..Config::default() });
    bench.routes(&[("shop.test:http", "http://shop.service.roo")]);
    for _ in 0..2 {
        let response = get(bench.http, "shop.test").await;
        assert_eq!((status(&response), field(&response, "roo-error")), (503, Some("no-upstream")));
        assert_eq!(field(&response, "retry-after"), Some("1"));
        bench.service("web", vec![endpoint(nobody().await, 1)]);
    }
    let mut question = [0; 512];
    assert!(silent.try_recv(&mut question).is_err(), "nobody may be asked");
}

#[tokio::test]
async fn an_instance_by_name_is_asked_of_the_dns_and_a_service_in_a_service_is_nothing() {
    let upstream = Upstream::echo("a").await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", "http://shop.service.roo")]);
    let localhost = Endpoint { host: DestinationHost::Name("localhost".into()), ..endpoint(upstream.address, 1) };
    let circle = Endpoint { host: DestinationHost::Service("shop".into()), ..localhost.clone() };
    bench.service("shop", vec![circle.clone(), localhost]);
    for _ in 0..3 {
        assert_eq!(who(&bench).await, "a");
    }
    bench.service("shop", vec![circle]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 503);
}

#[tokio::test]
async fn what_has_left_gets_nothing_new() {
    let (one, two) = (Upstream::echo("one").await, Upstream::echo("two").await);
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", "http://shop.service.roo")]);
    bench.service("shop", vec![endpoint(one.address, 1), endpoint(two.address, 1)]);
    let both = [who(&bench).await, who(&bench).await];
    assert_ne!(both[0], both[1]);
    // Its connection is open and unused, which must not tempt anybody.
    bench.service("shop", vec![endpoint(two.address, 1)]);
    for _ in 0..6 {
        assert_eq!(who(&bench).await, "two");
    }
}

#[tokio::test]
async fn what_stops_ends_what_it_has_and_gets_nothing_new() {
    let leave = Arc::new(Notify::new());
    let left = leave.clone();
    let one = Upstream::serve(move |_| {
        let left = left.clone();
        async move {
            left.notified().await;
            http::Response::new(full("ended in peace"))
        }
    })
    .await;
    let two = Upstream::echo("two").await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", "http://shop.service.roo")]);
    bench.service("shop", vec![endpoint(one.address, 1)]);
    let mut live = Raw::connect(bench.http).await;
    live.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    until("it is asked", || one.connections() == 1).await;
    let stopping = Endpoint { stopping: true, ..endpoint(one.address, 1) };
    bench.service("shop", vec![stopping.clone(), endpoint(two.address, 1)]);
    for _ in 0..6 {
        assert_eq!(who(&bench).await, "two");
    }
    leave.notify_one();
    assert!(live.rest().await.ends_with("ended in peace"));
    // Where nobody else is, it is not asked either.
    bench.service("shop", vec![stopping]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (503, Some("no-upstream")));
    assert_eq!(one.connections(), 1);
}

#[tokio::test]
async fn a_request_that_looks_for_another_instance_passes_by_what_has_left() {
    // It accepts no TLS and says nothing, until it is let go.
    let first = TcpListener::bind(loopback()).await.unwrap();
    let second = Upstream::echo("second").await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", r#"{"to":"https://shop.service.roo","tls":{"insecure":true}}"#)]);
    bench.service("shop", vec![endpoint(first.local_addr().unwrap(), 1), endpoint(second.address, 1)]);
    let mut raw = Raw::connect(bench.http).await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    let (socket, _) = tokio::time::timeout(SOON, first.accept()).await.unwrap().unwrap();
    bench.service("shop", Vec::new());
    drop(socket);
    let response = raw.rest().await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-tls")), "{response}");
    assert_eq!(second.connections(), 0);
}

impl Bench {
    fn tasks(&self, name: &str, endpoints: Vec<Endpoint>) {
        self.control.set_services(ServiceTable::default().with_tasks([(name.to_owned(), endpoints)]));
    }
}

#[tokio::test]
async fn a_name_of_the_orchestrator_stands_for_its_tasks() {
    let silent = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let bench = Bench::with(Config { resolver: Some(silent.local_addr().unwrap()), ..Config::default() });
    let (one, two) = (Upstream::echo("one").await, Upstream::echo("two").await);
    let port = one.address.port();
    for name in ["shop_web", "tasks.shop_web", "tasks.Shop_Web."] {
        // Their own ports are for those who name none.
        bench.tasks("shop_web", vec![endpoint(([127, 0, 0, 1], 1).into(), 1)]);
        bench.routes(&[("shop.test:http", format!("http://{name}:{port}"))]);
        assert_eq!(who(&bench).await, "one", "{name}");
    }
    bench.routes(&[("shop.test:http", format!("http://shop_web:{}", two.address.port()))]);
    assert_eq!(who(&bench).await, "two");
    let mut question = [0; 512];
    assert!(silent.try_recv(&mut question).is_err(), "nobody may be asked");
}

#[tokio::test]
async fn while_no_task_is_known_the_dns_is_asked() {
    let upstream = Upstream::echo("a").await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", format!("http://localhost:{}", upstream.address.port()))]);
    assert_eq!(who(&bench).await, "a");
    // A task takes over, and what it leaves behind is the DNS.
    bench.tasks("localhost", vec![endpoint(([127, 0, 0, 9], 1).into(), 1)]);
    assert_eq!(status(&get(bench.http, "shop.test").await), 502);
    bench.tasks("localhost", Vec::new());
    assert_eq!(who(&bench).await, "a");
}

#[tokio::test]
async fn a_task_that_stops_is_asked_only_where_there_is_no_other() {
    let (one, two) = (Upstream::echo("one").await, Upstream::echo("two").await);
    let bench = Bench::start();
    let [first, second] = [&one, &two].map(|upstream| upstream.address.port());
    let to = format!(r#"{{"to":["http://shop_one:{first}","http://shop_two:{second}"]}}"#);
    bench.routes(&[("shop.test:http", to)]);
    let stopping = |address| Endpoint { stopping: true, ..endpoint(address, 1) };
    let set = |first: Endpoint, second: Endpoint| {
        let tasks = [("shop_one".to_owned(), vec![first]), ("shop_two".to_owned(), vec![second])];
        bench.control.set_services(ServiceTable::default().with_tasks(tasks));
    };
    set(stopping(one.address), endpoint(two.address, 1));
    for _ in 0..4 {
        assert_eq!(who(&bench).await, "two");
    }
    set(stopping(one.address), stopping(two.address));
    let both = [who(&bench).await, who(&bench).await];
    assert_ne!(both[0], both[1], "one of them may still answer");

    // What has no share is no better, however well it is.
    let weighed = |weight: u8, name: &str, port: u16| format!(r#"{{"url":"http://{name}:{port}","weight":{weight}}}"#);
    let to = format!(r#"{{"to":[{},{}]}}"#, weighed(100, "shop_one", first), weighed(0, "shop_two", second));
    bench.routes(&[("shop.test:http", to)]);
    set(stopping(one.address), endpoint(two.address, 1));
    for _ in 0..4 {
        assert_eq!(who(&bench).await, "one");
    }
}
