//! Ports: several from the start, others while routes name them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

use roo_proxy::{Config, Listeners, Proxy, RouteTable, Scheme};

use crate::bench::{Bench, SOON, loopback, until};
use crate::client::{Raw, field, get, raw, status};
use crate::upstream::Upstream;

fn opening() -> Bench {
    Bench::with_workers(Config { opens_ports: true, ..Config::default() }, 2)
}

/// A port that is free and that the system gives to nobody who asks for any, since it is below those (ip(7)).
fn free() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(7919) as u16;
    let mut candidates =
        (0..20_000).map(|_| 10_000 + start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000);
    candidates.find(|port| TcpListener::bind(at(*port)).is_ok()).unwrap()
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(at(port)).is_ok()
}

#[tokio::test]
async fn a_port_is_open_while_a_route_names_it() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    let host = format!("shop.test:{port}");
    let (one, two) = (format!("{host}:http"), format!("other.test:{port}:http"));
    bench.routes(&[(&*one, upstream.url()), (&*two, upstream.url())]);
    until("the port is open", || is_open(port)).await;
    for _ in 0..8 {
        assert_eq!(status(&get(at(port), &host).await), 200);
    }
    until("it is told", || bench.control.ports().open == [at(port)]).await;
    bench.routes(&[(&*two, upstream.url())]);
    assert_eq!(status(&get(at(port), &format!("other.test:{port}")).await), 200);
    assert!(is_open(port));
    bench.routes::<&str>(&[]);
    until("the port is closed", || !is_open(port)).await;
    until("it is told", || bench.control.ports().open.is_empty()).await;
    assert_eq!(status(&get(bench.http, "shop.test").await), 404);
    bench.routes(&[(&*one, upstream.url())]);
    until("the port is open again", || is_open(port)).await;
}

#[tokio::test]
async fn a_port_of_https_speaks_tls() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    bench.routes(&[(&*format!("shop.test:{port}:https"), upstream.url())]);
    until("the port is open", || is_open(port)).await;
    let socket = tokio::net::TcpStream::connect(at(port)).await.unwrap();
    bench.tls_on(socket, "shop.test", &[]).await.unwrap();
}

#[tokio::test]
async fn connections_outlive_their_port() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    let (named, lasting) = (format!("shop.test:{port}:http"), "shop.test:http");
    bench.routes(&[(&*named, upstream.url()), (lasting, upstream.url())]);
    until("the port is open", || is_open(port)).await;
    let mut client = Raw::connect(at(port)).await;
    let ask = format!("GET / HTTP/1.1\r\nHost: shop.test:{port}\r\n");
    client.send(&format!("{ask}\r\n")).await;
    client.read_until(r#""x-forwarded-port""#).await;
    bench.routes(&[(lasting, upstream.url())]);
    until("the port is closed", || !is_open(port)).await;
    client.send(&format!("{ask}Connection: close\r\n\r\n")).await;
    let rest = client.rest().await;
    assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
}

#[tokio::test]
async fn a_port_that_is_taken_disturbs_nobody_and_is_tried_again() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    let stranger = TcpListener::bind(at(port)).unwrap();
    bench.routes(&[(&*format!("shop.test:{port}:http"), upstream.url()), ("shop.test:http", upstream.url())]);
    until("it is told", || !bench.control.ports().failed.is_empty()).await;
    let ports = bench.control.ports();
    assert_eq!((ports.failed[0].scheme, ports.failed[0].address), (Scheme::Http, at(port)));
    assert!(ports.open.is_empty());
    assert_eq!(status(&get(bench.http, "shop.test").await), 200);
    drop(stranger);
    until("the port is open", || bench.control.ports().open == [at(port)]).await;
    assert_eq!(status(&get(at(port), &format!("shop.test:{port}")).await), 200);
    assert!(bench.control.ports().failed.is_empty());
}

#[tokio::test]
async fn a_port_that_a_listener_has_is_its_own() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    let own = format!("shop.test:{}:http", bench.http.port());
    bench.routes(&[(&*own, upstream.url()), (&*format!("shop.test:{port}:http"), upstream.url())]);
    until("the other is open", || bench.control.ports().open == [at(port)]).await;
    assert!(bench.control.ports().failed.is_empty());
    assert_eq!(status(&get(bench.http, &format!("shop.test:{}", bench.http.port())).await), 200);
}

#[tokio::test]
async fn nobody_opens_ports_who_was_not_told_to() {
    let (bench, upstream, port) = (Bench::start(), Upstream::echo("a").await, free());
    bench.routes(&[(&*format!("shop.test:{port}:http"), upstream.url())]);
    assert_eq!(status(&get(bench.http, &format!("shop.test:{port}")).await), 200);
    assert!(!is_open(port));
}

#[tokio::test]
async fn a_port_that_a_route_has_opened_is_no_upstream() {
    let (bench, port) = (opening(), free());
    bench.routes(&[(&*format!("shop.test:{port}:http"), format!("http://{}", at(port)))]);
    until("the port is open", || !bench.control.ports().open.is_empty()).await;
    let response = get(at(port), &format!("shop.test:{port}")).await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-forbidden")));
}

#[tokio::test]
async fn a_drain_closes_all_ports() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    bench.routes(&[(&*format!("shop.test:{port}:http"), upstream.url())]);
    until("the port is open", || is_open(port)).await;
    bench.proxy.shutdown(SOON).await;
    until("the port is closed", || !is_open(port)).await;
}

#[tokio::test]
async fn several_addresses_are_served() {
    let two = [loopback(), ([127, 0, 0, 2], 0).into()];
    let listeners = Listeners::bind_all(&two, &[loopback()], 2).unwrap();
    let addresses: Vec<_> = listeners.addresses().filter(|(scheme, _)| *scheme == Scheme::Http).collect();
    let (proxy, _events) = Proxy::start(listeners, Config::default()).unwrap();
    let upstream = Upstream::echo("a").await;
    let route = ("shop.test:http".parse().unwrap(), upstream.url().parse().unwrap());
    proxy.control().set_routes(RouteTable::new([route]));
    for (_, address) in addresses {
        let response = raw(address, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&response), 200, "{address}");
    }
}

#[tokio::test]
async fn another_proxy_goes_on_with_the_sockets() {
    let (bench, upstream, port) = (opening(), Upstream::echo("a").await, free());
    let routes = || {
        let origins = ["shop.test:http".to_owned(), format!("shop.test:{port}:http")];
        RouteTable::new(origins.map(|origin| (origin.parse().unwrap(), upstream.url().parse().unwrap())))
    };
    bench.control.set_routes(routes());
    until("the port is open", || bench.control.ports().open == [at(port)]).await;
    let sockets = bench.proxy.sockets().unwrap();
    assert_eq!(sockets.iter().filter(|socket| socket.is_routes).count(), 2);
    let workers = 3;
    let listeners = Listeners::take(sockets, &[loopback()], &[loopback()], workers).unwrap();
    assert_eq!((listeners.http(), listeners.https()), (bench.http, bench.https));
    let config = Config { opens_ports: true, opens_later: true, ..Config::default() };
    let (next, _events) = Proxy::start(listeners, config).unwrap();
    bench.proxy.shutdown(SOON).await;
    // Nobody accepts, and nobody is refused.
    let mut waiting = Vec::new();
    for index in 0..40 {
        let mut client = Raw::connect(if index % 2 == 0 { bench.http } else { at(port) }).await;
        client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
        waiting.push(client);
    }
    assert_eq!(next.control().stats().connections, 0);
    next.control().set_routes(routes());
    next.open();
    for mut client in waiting {
        assert_eq!(status(&client.rest().await), 200);
    }
    next.control().set_routes(RouteTable::default());
    until("the port is closed", || !is_open(port)).await;
}
