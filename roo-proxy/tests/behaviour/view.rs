//! What workers tell of themselves when they are asked.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::bench::{Bench, until};
use crate::client::{Raw, full, get, request2, status, text};
use crate::upstream::Upstream;

#[tokio::test]
async fn connections_are_shown_with_what_they_wait_for() {
    let bench = Bench::with_workers(roo_proxy::Config::default(), 2);
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let upstream = Upstream::serve(move |_| {
        let held = held.clone();
        async move {
            held.notified().await;
            http::Response::new(full("done"))
        }
    })
    .await;
    bench.routes(&[("a.test:http", upstream.url()), ("a.test:https", upstream.url())]);
    assert!(bench.control.connections(10).await.is_empty());

    let mut waiting = Raw::connect(bench.http).await;
    waiting.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    until("it is under way", || bench.control.stats().requests == 1 && upstream.connections() == 1).await;
    let secure = bench.https2("a.test").await;
    let handshaking = Raw::connect(bench.https).await;
    until("all are there", || bench.control.stats().connections == 3).await;

    // The client's end of a handshake is done before ours.
    let mut views = bench.control.connections(10).await;
    while !views.iter().any(|view| view.protocol == Some("HTTP/2") && view.state == "idle") {
        tokio::task::yield_now().await;
        views = bench.control.connections(10).await;
    }
    assert_eq!(views.len(), 3, "{views:#?}");
    let view = |listener, protocol| views.iter().find(|v| v.listener == listener && v.protocol == protocol).unwrap();
    let plain = view("http", Some("HTTP/1.1"));
    assert_eq!(plain.peer, waiting.0.local_addr().unwrap());
    assert_eq!((plain.state, plain.requests, plain.active), ("upstream", 1, 1), "{plain:?}");
    assert_eq!((plain.route.as_deref(), plain.tls), (Some("a.test:http"), None), "{plain:?}");
    assert!(plain.received_bytes > 30 && plain.sent_bytes == 0 && plain.age_seconds < 60, "{plain:?}");
    let tls = view("https", Some("HTTP/2"));
    assert_eq!((tls.state, tls.requests, tls.tls), ("idle", 0, Some("TLSv1_3")), "{tls:?}");
    let hello = view("https", None);
    assert_eq!((hello.state, hello.peer), ("handshake", handshaking.0.local_addr().unwrap()), "{hello:?}");
    assert_eq!(bench.control.connections(2).await.len(), 2);

    let views = bench.control.upstreams(10).await;
    assert_eq!(views.len(), 1, "{views:#?}");
    let address = upstream.address.to_string();
    assert_eq!((&views[0].address, views[0].active, views[0].idle), (&address, 1, 0), "{views:#?}");
    assert_eq!((&*views[0].route, views[0].state), ("a.test:http", "in"), "{views:#?}");
    release.notify_one();
    waiting.read_until("done").await;
    let mut views = bench.control.upstreams(10).await;
    while views[0].idle != 1 {
        tokio::task::yield_now().await;
        views = bench.control.upstreams(10).await;
    }
    assert_eq!(views[0].active, 0, "{views:#?}");

    release.notify_one();
    let mut secure = secure;
    text(secure.send_request(request2("GET", "a.test", "/")).await.unwrap()).await;
    drop(waiting);
    drop(handshaking);
    drop(secure);
    until("nobody is there", || bench.control.stats().connections == 0).await;
}

#[tokio::test]
async fn an_address_that_failed_is_shown() {
    let bench = Bench::start();
    bench.routes(&[("a.test:http", "http://127.0.0.1:1")]);
    assert!(matches!(status(&get(bench.http, "a.test").await), 502 | 503));
    let views = bench.control.upstreams(10).await;
    assert_eq!(views.len(), 1, "{views:#?}");
    let view = &views[0];
    assert_eq!((&*view.upstream, &*view.address), ("http://127.0.0.1:1", "127.0.0.1:1"));
    assert_eq!((view.state, view.cause.as_deref()), ("ejected", Some("upstream-refused")), "{view:?}");
    assert_eq!((view.ejections, view.active), (Some(1), 0), "{view:?}");
    assert!(bench.control.upstreams(0).await.is_empty());
}
