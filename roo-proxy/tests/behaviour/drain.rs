//! Stopping.

use std::time::Duration;

use http::Response;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::bench::{Bench, SOON, until};
use crate::client::{Raw, field, full, request1, request2, status, text};
use crate::upstream::Upstream;

/// An upstream that answers each request once told to.
async fn patient() -> (Upstream, mpsc::Sender<()>) {
    let (go, gate) = mpsc::channel::<()>(8);
    let gate = std::sync::Arc::new(tokio::sync::Mutex::new(gate));
    let upstream = Upstream::serve(move |_| {
        let gate = gate.clone();
        async move {
            gate.lock().await.recv().await;
            Response::new(full("ok"))
        }
    })
    .await;
    (upstream, go)
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_closes_connections() {
    let (bench, (upstream, go)) = (Bench::start(), patient().await);
    bench.routes(&[("shop.test:http", upstream.url()), ("shop.test:https", upstream.url())]);
    let mut one = Raw::connect(bench.http).await;
    one.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    let mut two = bench.https2("shop.test").await;
    let second = tokio::spawn(two.send_request(request2("GET", "shop.test", "/")));
    let idle = bench.https1("shop.test").await;
    until("both are under way", || bench.control.stats().requests == 2).await;
    let (http, control) = (bench.http, bench.control.clone());
    let stopping = tokio::spawn(bench.proxy.shutdown(SOON));
    until("the idle one is closed", || idle.is_closed()).await;
    let refused = async {
        while TcpStream::connect(http).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("nothing new should be let in");
    go.send(()).await.unwrap();
    go.send(()).await.unwrap();
    let response = one.rest().await;
    assert_eq!((status(&response), field(&response, "connection")), (200, Some("close")));
    let response = second.await.unwrap().unwrap();
    assert_eq!(text(response).await, "ok");
    tokio::time::timeout(SOON, stopping).await.expect("the drain should end by itself").unwrap();
    assert_eq!(control.stats().connections, 0);
}

#[tokio::test]
async fn a_new_connection_may_still_ask_in_a_drain() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    until("it is in", || bench.control.stats().connections == 1).await;
    let stopping = tokio::spawn(bench.proxy.shutdown(SOON));
    until("nothing new is let in", || std::net::TcpStream::connect(bench.http).is_err()).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    let response = client.rest().await;
    assert_eq!((status(&response), field(&response, "connection")), (200, Some("close")));
    stopping.await.unwrap();
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left() {
    let (bench, (upstream, _go)) = (Bench::start(), patient().await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    until("it is under way", || bench.control.stats().requests == 1).await;
    let stopping = bench.proxy.shutdown(Duration::from_millis(50));
    tokio::time::timeout(SOON, stopping).await.expect("the deadline should hold");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn dropping_the_proxy_frees_its_ports() {
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("shop.test:http", upstream.url())]);
    let response = bench.http1().await.send_request(request1("GET", "shop.test", "/")).await.unwrap();
    text(response).await;
    let (http, https, control) = (bench.http, bench.https, bench.control.clone());
    drop(bench);
    until("the ports are free", || roo_proxy::Listeners::bind(http, https, 1).is_ok()).await;
    until("nothing is left", || control.stats().connections == 0).await;
}
