//! What is counted, and what a panic costs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::bench::{Bench, until};
use crate::client::{Raw, get, request2, status, text};
use crate::upstream::{Upstream, nobody};

/// Keeps counters by name and sorted labels; panics for one route's histograms.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>);

/// A recorder with a fault, for one route.
const FAULTY: &str = "faulty.test:http";

/// A route whose first request holds its worker up, from the first time that this is waited for to the second.
const STALLING: &str = "stalling.test:http";
static STALLED: Barrier = Barrier::new(2);

fn kept() -> &'static Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    KEPT.get_or_init(|| {
        let kept = Kept::default();
        metrics::set_global_recorder(kept.clone()).ok().unwrap();
        kept
    })
}

impl Kept {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let mut labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        self.0.lock().unwrap().entry(format!("{}{{{}}}", key.name(), labels.join(","))).or_default().clone()
    }

    fn value(&self, key: &str) -> u64 {
        self.0.lock().unwrap().get(key).map_or(0, |cell| cell.load(Ordering::SeqCst))
    }
}

struct Samples(Arc<AtomicU64>);

impl HistogramFn for Samples {
    fn record(&self, _value: f64) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        assert!(key.labels().all(|label| label.value() != FAULTY), "this recorder fails on purpose");
        if key.name() == "roo_request_duration_seconds" && key.labels().any(|label| label.value() == STALLING) {
            STALLED.wait();
            STALLED.wait();
        }
        Histogram::from_arc(Arc::new(Samples(self.cell(key))))
    }
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let kept = kept();
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[("*.counted.test:http", upstream.url()), ("counted.test:https", upstream.url())]);
    for host in ["a.counted.test", "b.counted.test"] {
        assert_eq!(status(&get(bench.http, host).await), 200);
    }
    let response =
        bench.https2("counted.test").await.send_request(request2("POST", "counted.test", "/")).await.unwrap();
    text(response).await;
    until("all are counted", || {
        kept.value("roo_requests_total{code=200,method=GET,proto=1.1,route=*.counted.test:http}") == 2
            && kept.value("roo_requests_total{code=200,method=POST,proto=2,route=counted.test:https}") == 1
            && kept.value("roo_request_duration_seconds{route=*.counted.test:http}") == 2
            && kept.value("roo_upstream_duration_seconds{route=counted.test:https}") == 1
    })
    .await;
    assert!(kept.value("roo_tls_handshakes_total{result=done}") >= 1);
}

#[tokio::test]
async fn ejections_and_retries_are_counted_by_route() {
    let kept = kept();
    let (bench, good) = (Bench::start(), Upstream::echo("good").await);
    let to = [format!("http://{}", nobody().await), good.url()];
    let ejection = serde_json::json!({ "backoff": "1h", "backoff_max": "1h" });
    let route = serde_json::json!({ "to": to, "ejection": ejection }).to_string();
    bench.routes(&[("ejecting.test:http", route)]);
    for _ in 0..4 {
        assert_eq!(status(&get(bench.http, "ejecting.test").await), 200);
    }
    for name in ["roo_upstream_retries_total", "roo_upstream_ejections_total"] {
        assert_eq!(kept.value(&format!("{name}{{route=ejecting.test:http}}")), 1, "{name}");
    }
    assert_eq!(f64::from_bits(kept.value("roo_upstream_up{route=ejecting.test:http}")), 1.0);
}

#[tokio::test]
async fn a_client_that_left_is_counted_as_499() {
    let kept = kept();
    let (bench, upstream) = (Bench::start(), Upstream::serve(|_| std::future::pending()).await);
    bench.routes(&[("left.test:http", upstream.url())]);
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: left.test\r\n\r\n").await;
    until("it is under way", || bench.control.stats().requests == 1).await;
    drop(client);
    let key = "roo_requests_total{code=499,method=GET,proto=1.1,route=left.test:http}";
    until("it is counted", || kept.value(key) == 1).await;
}

#[tokio::test]
async fn a_panic_in_one_request_leaves_the_others_alone() {
    kept();
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    bench.routes(&[(FAULTY, upstream.url()), ("shop.test:http", upstream.url())]);
    let mut other = Raw::connect(bench.http).await;
    other.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    other.read_until("200 OK").await;
    assert_eq!(get(bench.http, "faulty.test").await, "");
    other.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    other.read_until("200 OK").await;
    drop(other);
    until("nothing is left", || {
        let stats = bench.control.stats();
        stats.connections == 0 && stats.requests == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_even_if_its_request_was_there_at_once() {
    kept();
    let (bench, upstream) = (Bench::start(), Upstream::echo("a").await);
    let silent = Upstream::serve(|_| std::future::pending()).await;
    bench.routes(&[(STALLING, upstream.url()), ("shop.test:http", silent.url())]);
    let mut stalling = Raw::connect(bench.http).await;
    stalling.send("GET / HTTP/1.1\r\nHost: stalling.test\r\n\r\n").await;
    let stall = || tokio::task::spawn_blocking(|| STALLED.wait());
    stall().await.unwrap();
    // The worker finds the whole request with the connection, and never waits for the client.
    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    stall().await.unwrap();
    until("it is under way", || silent.connections() == 1).await;
    drop(client);
    until("it is given up", || bench.control.stats().requests == 0).await;
}
