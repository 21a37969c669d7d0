//! Which instance is asked, who is passed over, and who is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Response;
use serde_json::{Value, json};

use crate::bench::{Authority, Bench, until};
use crate::client::{Raw, field, full, get, raw, status};
use crate::upstream::{Upstream, nobody, read_head};

const ASK: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";

/// Answers every request with this status, and counts them.
async fn answering(status: u16) -> (Upstream, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let upstream = Upstream::serve(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { Response::builder().status(status).body(full("")).unwrap() }
    })
    .await;
    (upstream, count)
}

/// Takes requests and never answers.
async fn silent() -> Upstream {
    Upstream::serve(|_| std::future::pending()).await
}

fn route(bench: &Bench, document: &Value) {
    bench.routes(&[("shop.test:http", document.to_string())]);
}

async fn who(bench: &Bench) -> String {
    let response = get(bench.http, "shop.test").await;
    field(&response, "x-upstream").unwrap_or_else(|| panic!("{response}")).to_owned()
}

#[tokio::test]
async fn destinations_have_turns_by_weight() {
    let (a, b, none) = (Upstream::echo("a").await, Upstream::echo("b").await, Upstream::echo("none").await);
    let bench = Bench::start();
    let weighted = |upstream: &Upstream, weight: u8| json!({ "url": upstream.url(), "weight": weight });
    route(&bench, &json!({ "to": [weighted(&a, 75), weighted(&b, 25), weighted(&none, 0)] }));
    let mut asked = String::new();
    for _ in 0..8 {
        asked += &who(&bench).await;
    }
    assert_eq!(asked.matches('a').count(), 6, "{asked}");
    assert_eq!(none.connections(), 0);
}

#[tokio::test]
async fn the_one_with_the_fewest_requests_is_asked() {
    let (busy, free) = (silent().await, Upstream::echo("free").await);
    let bench = Bench::start();
    route(&bench, &json!({ "to": [busy.url(), free.url()], "balance": "least-requests" }));
    let mut waiting = Raw::connect(bench.http).await;
    waiting.send(ASK).await;
    until("it is asked", || busy.connections() == 1).await;
    for _ in 0..6 {
        assert_eq!(who(&bench).await, "free");
    }
    assert_eq!(busy.connections(), 1);
    // Once nobody waits for it any more, it is asked again.
    drop(waiting);
    until("nothing is under way", || bench.control.stats().requests == 0).await;
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = Raw::connect(bench.http).await;
        other.send(ASK).await;
        others.push(other);
    }
    until("it is asked again", || busy.connections() == 2).await;
}

#[tokio::test]
async fn the_one_that_answers_sooner_is_asked() {
    let (slow, fast) = (silent().await, Upstream::echo("fast").await);
    let bench = Bench::start();
    route(&bench, &json!({ "to": [slow.url(), fast.url()], "balance": "latency" }));
    // Whoever is new is asked once, and then waited for.
    let mut waiting = Vec::new();
    for asked in 1..=2 {
        let mut raw = Raw::connect(bench.http).await;
        raw.send(ASK).await;
        waiting.push(raw);
        until("somebody is asked", || slow.connections() + fast.connections() == asked).await;
        until("only the slow one is waited for", || bench.control.stats().requests == slow.connections()).await;
    }
    assert_eq!(slow.connections(), 1);
    for _ in 0..10 {
        assert_eq!(who(&bench).await, "fast");
    }
}

#[tokio::test]
async fn who_fails_again_and_again_is_passed_over() {
    for failing in [502, 503, 504] {
        let ((bad, asked), good) = (answering(failing).await, Upstream::echo("good").await);
        let bench = Bench::start();
        route(&bench, &json!({ "to": [bad.url(), good.url()], "ejection": { "backoff": "1h", "backoff_max": "1h" } }));
        let mut failed = 0;
        for _ in 0..30 {
            let response = get(bench.http, "shop.test").await;
            // What an upstream says is the client's: nothing of it is ours.
            assert_eq!(field(&response, "roo-error"), None);
            failed += usize::from(status(&response) == failing);
        }
        assert_eq!((failed, asked.load(Ordering::SeqCst)), (5, 5));
    }
}

#[tokio::test]
async fn an_answer_in_between_forgives_failures() {
    let turn = Arc::new(AtomicUsize::new(0));
    let moody = Upstream::serve(move |_| {
        let status = if turn.fetch_add(1, Ordering::SeqCst) % 5 == 4 { 500 } else { 503 };
        async move { Response::builder().status(status).header("x-upstream", "moody").body(full("")).unwrap() }
    })
    .await;
    let good = Upstream::echo("good").await;
    let bench = Bench::start();
    route(&bench, &json!({ "to": [moody.url(), good.url()], "ejection": { "backoff": "1h", "backoff_max": "1h" } }));
    let mut asked = 0;
    for _ in 0..40 {
        asked += usize::from(who(&bench).await == "moody");
    }
    assert_eq!(asked, 20);
}

#[tokio::test]
async fn no_more_than_the_ceiling_are_out_for_their_answers() {
    let ((one, first), (two, second)) = (answering(503).await, answering(503).await);
    let bench = Bench::start();
    route(&bench, &json!({ "to": [one.url(), two.url()], "ejection": { "backoff": "1h", "backoff_max": "1h" } }));
    for _ in 0..40 {
        let response = get(bench.http, "shop.test").await;
        assert_eq!((status(&response), field(&response, "roo-error")), (503, None));
    }
    let (first, second) = (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst));
    assert_eq!((first.min(second), first + second), (5, 40), "one is out, the other bears the rest");
}

/// Speaks TLS while `open`; else it closes every connection at once.
async fn gated(authority: &Authority, name: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    (Upstream::echo_tls_while(authority, name, open.clone()).await, open)
}

#[tokio::test]
async fn when_all_are_out_any_is_tried_and_then_it_is_503() {
    let (bench, authority) = (Bench::start(), Authority::new());
    let ((one, first), (two, _)) = (gated(&authority, "one").await, gated(&authority, "two").await);
    let to = [&one, &two].map(|upstream| format!("https://{}", upstream.address));
    route(
        &bench,
        &json!({ "to": to, "tls": { "insecure": true }, "ejection": { "backoff": "1h", "backoff_max": "1h" } }),
    );
    // The first finds them out, one after the other.
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-tls")));
    for _ in 0..2 {
        let before = one.connections() + two.connections();
        let response = get(bench.http, "shop.test").await;
        assert_eq!((status(&response), field(&response, "roo-error")), (503, Some("no-healthy-upstream")));
        let seconds: u32 = field(&response, "retry-after").unwrap().parse().unwrap();
        assert!((3000..4000).contains(&seconds), "{seconds}");
        assert_eq!(one.connections() + two.connections(), before + 2, "both were tried all the same");
    }
    // Whoever answers is back, however long it should have been out.
    first.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(who(&bench).await, "one");
    }
    let before = two.connections();
    assert_eq!(who(&bench).await, "one");
    assert_eq!(two.connections(), before);
}

#[tokio::test]
async fn one_request_finds_out_who_is_back() {
    let (bench, authority) = (Bench::start(), Authority::new());
    let ((back, open), (steady, always)) = (gated(&authority, "back").await, gated(&authority, "steady").await);
    always.store(true, Ordering::SeqCst);
    let to = [&back, &steady].map(|upstream| format!("https://{}", upstream.address));
    route(
        &bench,
        &json!({ "to": to, "tls": { "insecure": true }, "ejection": { "backoff": "1ms", "backoff_max": "1ms" } }),
    );
    for _ in 0..6 {
        assert_eq!(who(&bench).await, "steady");
    }
    open.store(true, Ordering::SeqCst);
    let mut asked = Vec::new();
    for _ in 0..1000 {
        asked.push(who(&bench).await);
        if asked.iter().any(|name| name == "back") {
            return;
        }
    }
    panic!("it is never asked again");
}

#[tokio::test]
async fn ejection_can_be_switched_off() {
    let ((bad, asked), good) = (answering(503).await, Upstream::echo("good").await);
    let bench = Bench::start();
    route(&bench, &json!({ "to": [bad.url(), good.url()], "ejection": { "failures": 0 } }));
    for _ in 0..20 {
        get(bench.http, "shop.test").await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

/// Reads a request, counts it and hangs up.
async fn hanging_up() -> (Upstream, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let upstream = Upstream::listen(move |mut socket| {
        let counted = counted.clone();
        async move {
            read_head(&mut socket).await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    (upstream, count)
}

#[tokio::test]
async fn a_lost_request_goes_to_another_instance_if_it_may_be_repeated() {
    let ((bad, seen), good) = (hanging_up().await, Upstream::echo("good").await);
    let bench = Bench::start();
    route(&bench, &json!({ "to": [bad.url(), good.url()], "ejection": { "failures": 0 } }));
    for _ in 0..4 {
        assert_eq!(who(&bench).await, "good");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    for (method, body) in [("POST", ""), ("POST", "hi"), ("PUT", "hi"), ("PATCH", "")] {
        let before = (seen.load(Ordering::SeqCst), good.connections());
        let mut lost = 0;
        for _ in 0..2 {
            let length = body.len();
            let request = format!(
                "{method} / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let response = raw(bench.http, &request).await;
            lost += usize::from(status(&response) == 502 && field(&response, "roo-error") == Some("upstream-reset"));
        }
        assert_eq!((lost, seen.load(Ordering::SeqCst)), (1, before.0 + 1), "{method}: one lost, none sent twice");
    }
}

#[tokio::test]
async fn an_instance_that_refuses_costs_no_request() {
    let good = Upstream::echo("good").await;
    let bench = Bench::start();
    route(&bench, &json!({ "to": [format!("http://{}", nobody().await), good.url()] }));
    for _ in 0..4 {
        let post = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let response = raw(bench.http, post).await;
        assert!(response.contains(r#""body":"hello""#), "{response}");
    }
}
