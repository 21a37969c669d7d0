//! The watch and the fake engine.

use std::time::Duration;

use http::StatusCode;
use roo_docker::{Config, RescanError, Snapshot, State};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, FakeEngine, event, image, service, site, unpublished};
use crate::watched::{NEVER, PATIENCE, Watched, eventually, hosts};

#[tokio::test]
async fn services_are_seen_at_the_start() {
    let engine = FakeEngine::started(&json!([
        site("web", "a.example"),
        service(
            "shop_web",
            &json!({ "OriginHosts": "b.example" }),
            &json!({ "DestinationHost": "shop_web", "DestinationPort": "80", "OriginHosts": "c.example" }),
        ),
        service("plain", &json!(null), &json!(null)),
    ]));
    let mut watched = Watched::new(&engine);
    let snapshot = watched.until_hosts(&["b.example", "a.example"]).await;
    let names: Vec<&str> = snapshot.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["plain", "shop_web", "web"]);
    assert_eq!(snapshot.services[2].id, "id-web");
    assert_eq!(snapshot.services[2].routes[0].to[0].url, "http://tasks.web:3000", "the one TCP port it publishes");
    assert_eq!(snapshot.services[1].routes[0].to[0].url, "http://shop_web:80");
    assert_eq!(snapshot.problems.len(), 1, "labels differ between service and container");
    assert!(snapshot.synced_at.is_some_and(|at| at > 1_600_000_000_000));
}

#[tokio::test]
async fn the_port_is_that_which_the_image_exposes_and_images_are_asked_about_once() {
    let pinned = "x:1@sha256:aa";
    let host = |host: &str| json!({ "roo.host": host });
    let engine = FakeEngine::started(&json!([
        unpublished("a", &host("a.example"), pinned),
        unpublished("b", &host("b.example"), pinned),
        unpublished("c", &host("c.example"), "absent:1"),
        unpublished("d", &host("d.example"), "refused:1"),
        unpublished("e", &json!({ "other": "label" }), "other:1"),
    ]));
    engine.script().images.insert(pinned.to_owned(), image(&["9000/tcp", "53/udp"]));
    engine.script().images.insert("refused:1".to_owned(), Answer::error(403, "the proxy forbids it"));
    let mut watched = Watched::new(&engine);
    let snapshot = watched.until_hosts(&["a.example", "b.example"]).await;
    assert_eq!(snapshot.services[0].routes[0].to[0].url, "http://tasks.a:9000");
    let told: Vec<(&str, &str)> = snapshot.problems.iter().map(|p| (p.service.as_str(), p.label.as_str())).collect();
    assert_eq!(told, [("c", "roo.port"), ("d", "roo.port")]);
    assert!(snapshot.problems[0].message.contains("absent:1 is not on this manager"), "{:?}", snapshot.problems);
    assert!(snapshot.problems[1].message.contains("the proxy forbids it"), "{:?}", snapshot.problems);

    engine.script().images.insert("absent:1".to_owned(), image(&["80/tcp"]));
    timeout(PATIENCE, watched.watcher.handle.rescan()).await.unwrap().unwrap();
    watched.until_hosts(&["a.example", "b.example", "c.example"]).await;
    assert_eq!(engine.asked(&format!("/images/{pinned}/")), 1, "what can't change is asked once");
    assert_eq!(engine.asked("/images/other"), 0, "services without labels of ours are none of our business");
}

#[tokio::test]
async fn only_events_of_services_and_nodes_are_asked_for_and_before_the_list() {
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&[]).await;
    let requests = engine.script().requests.clone();
    let events = requests.iter().position(|request| request.starts_with("/events?"));
    let list = requests.iter().position(|request| request.starts_with("/services"));
    assert!(events < list, "{requests:?}");
    let query = &requests[events.unwrap()];
    for word in ["scope", "swarm", "type", "service", "node"] {
        assert!(query.contains(word), "{query}");
    }
}

#[tokio::test]
async fn an_event_brings_a_new_service_and_takes_an_old_one() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&["a.example"]).await;
    eventually("the event stream opens", || engine.emit("") > 0).await;

    engine.script().services = Answer::json(&json!([site("a", "a.example"), site("b", "b.example")]));
    engine.emit(&event("create"));
    watched.until_hosts(&["a.example", "b.example"]).await;

    engine.script().services = Answer::json(&json!([site("b", "b.example")]));
    engine.emit(&event("remove"));
    watched.until_hosts(&["b.example"]).await;
}

#[tokio::test]
async fn a_burst_of_events_is_answered_by_few_reads() {
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::with(&engine, |config| config.debounce = Duration::from_millis(100));
    watched.until_hosts(&[]).await;
    eventually("the event stream opens", || engine.emit("") > 0).await;
    let before = engine.asked("/services");
    engine.script().services = Answer::json(&json!([site("a", "a.example")]));
    engine.emit(&event("update").repeat(500));
    watched.until_hosts(&["a.example"]).await;
    // One as a rule; a machine under load may deliver the burst in pieces.
    assert!(engine.asked("/services") - before < 50);
}

#[tokio::test]
async fn services_are_read_again_without_any_event() {
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::with(&engine, |config| config.resync = Duration::from_millis(50));
    watched.until_hosts(&[]).await;
    engine.script().services = Answer::json(&json!([site("a", "a.example")]));
    watched.until_hosts(&["a.example"]).await;
}

#[tokio::test]
async fn a_rescan_reads_now_and_answers_with_what_it_found() {
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&[]).await;
    engine.script().services = Answer::json(&json!([site("a", "a.example")]));
    let handle = watched.watcher.handle.clone();
    let many = (0..40).map(|_| handle.rescan());
    for outcome in timeout(PATIENCE, futures_util::future::join_all(many)).await.unwrap() {
        assert_eq!(hosts(&outcome.unwrap()), ["a.example"]);
    }
}

#[tokio::test]
async fn an_engine_that_is_gone_leaves_its_services_and_is_found_again() {
    let mut engine = FakeEngine::started(&json!([site("a", "a.example")]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&["a.example"]).await;

    engine.stop().await;
    let snapshot = watched.until_unreachable("no Docker socket at").await;
    assert_eq!(hosts(&snapshot), ["a.example"]);
    assert!(snapshot.synced_at.is_some());
    let rescanned = timeout(PATIENCE, watched.watcher.handle.rescan()).await.unwrap().unwrap();
    assert!(matches!(rescanned.state, State::Unreachable { .. }));

    engine.script().services = Answer::json(&json!([site("b", "b.example")]));
    engine.start();
    watched.until_hosts(&["b.example"]).await;
}

#[tokio::test]
async fn an_engine_that_starts_later_is_found() {
    let mut engine = FakeEngine::new(&json!([site("a", "a.example")]));
    let mut watched = Watched::new(&engine);
    let snapshot = watched.until_unreachable("--docker-host").await;
    assert_eq!(snapshot.synced_at, None);
    engine.start();
    watched.until_hosts(&["a.example"]).await;
}

#[tokio::test]
async fn a_rescan_cuts_a_long_pause_short() {
    let mut engine = FakeEngine::new(&json!([site("a", "a.example")]));
    let mut watched = Watched::with(&engine, |config| config.retry = NEVER);
    watched.until_unreachable("no Docker socket").await;
    engine.start();
    let snapshot = timeout(PATIENCE, watched.watcher.handle.rescan()).await.unwrap().unwrap();
    assert_eq!((&snapshot.state, hosts(&snapshot)), (&State::Watching, vec!["a.example"]));
}

#[tokio::test]
async fn an_engine_that_is_no_manager_is_asked_again_until_it_is_promoted() {
    let engine = FakeEngine::started(&json!([]));
    let refusal = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.";
    engine.script().services = Answer::error(503, refusal);
    let mut watched = Watched::new(&engine);
    let no_manager = |snapshot: &Snapshot| matches!(&snapshot.state, State::NotManager { message } if message.contains("Worker nodes"));
    let snapshot = watched.until("no manager", no_manager).await;
    assert!(snapshot.services.is_empty());
    engine.script().services = Answer::json(&json!([site("a", "a.example")]));
    watched.until_hosts(&["a.example"]).await;
}

#[tokio::test]
async fn a_manager_that_lost_its_swarm_keeps_what_was_seen() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&["a.example"]).await;
    engine.script().services = Answer::error(503, "The swarm does not have a leader.");
    let rescanned = timeout(PATIENCE, watched.watcher.handle.rescan()).await.unwrap().unwrap();
    assert!(
        matches!(&rescanned.state, State::Unreachable { error } if error.contains("503") && error.contains("leader"))
    );
    assert_eq!(hosts(&rescanned), ["a.example"]);
}

#[tokio::test]
async fn lists_that_make_no_sense_leave_the_last_good_one() {
    let mut unknown = site("b", "b.example");
    unknown["Spec"]["EndpointSpec"]["Mode"] = json!("teleport");
    let mut wrong_type = site("b", "b.example");
    wrong_type["Spec"]["Labels"] = json!(["roo.host=b.example"]);
    let nonsense = [
        Answer::raw(""),
        Answer::raw("null"),
        Answer::raw("{}"),
        Answer::raw("[{\"ID\":\"x\",\"Spec\":{\"Na"),
        Answer::raw("<html>captive portal</html>"),
        Answer::raw(&"[".repeat(10_000)),
        Answer::raw("\u{0}\u{1}\u{fffd}"),
        Answer::json(&json!([unknown])),
        Answer::json(&json!([wrong_type])),
        Answer::error(500, "boom"),
        Answer::error(403, "the proxy forbids it"),
        Answer::Body(StatusCode::BAD_GATEWAY, "not even JSON".to_owned()),
    ];
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&["a.example"]).await;
    for (number, answer) in nonsense.into_iter().enumerate() {
        engine.script().services = answer;
        let bad = timeout(PATIENCE, watched.watcher.handle.rescan()).await.unwrap().unwrap();
        assert!(matches!(bad.state, State::Unreachable { .. }), "number {number}: {bad:?}");
        assert_eq!(hosts(&bad), ["a.example"], "number {number}");
        engine.script().services = Answer::json(&json!([site("a", "a.example")]));
        watched.until_hosts(&["a.example"]).await;
    }
}

#[tokio::test]
async fn services_without_name_or_spec_are_passed_over() {
    let engine = FakeEngine::started(&json!([{}, { "ID": "x" }, { "Spec": { "Name": "y" } }, site("a", "a.example")]));
    let mut watched = Watched::new(&engine);
    let snapshot = watched.until_hosts(&["a.example"]).await;
    assert_eq!(snapshot.services.len(), 1);
}

#[tokio::test]
async fn events_that_make_no_sense_lead_to_a_fresh_look() {
    let nonsense = [
        "{\"Type\":\"service\",\"Action\":\"create\",\"scope\":\"galaxy\"}\n".to_owned(),
        "{\"Type\":\"starship\",\"scope\":\"swarm\"}\n".to_owned(),
        "not json\n".to_owned(),
        "{\"Type\":7}\n".to_owned(),
        "\u{0}\u{fffd}\n".to_owned(),
    ];
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&[]).await;
    for (number, bytes) in nonsense.iter().enumerate() {
        eventually("the event stream opens", || engine.emit("") > 0).await;
        let host = format!("h{number}.example");
        engine.script().services = Answer::json(&json!([site("a", &host)]));
        engine.emit(bytes);
        watched.until_hosts(&[&host]).await;
    }
}

#[tokio::test]
async fn an_event_stream_that_ends_leads_to_a_fresh_look() {
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&[]).await;
    eventually("the event stream opens", || engine.emit("") > 0).await;
    engine.script().services = Answer::json(&json!([site("a", "a.example")]));
    engine.hang_up_events();
    watched.until_hosts(&["a.example"]).await;
}

#[tokio::test]
async fn an_event_stream_that_is_refused_is_told() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    engine.script().events = Some(Answer::error(403, "no events for you"));
    let mut watched = Watched::new(&engine);
    watched.until_unreachable("no events for you").await;
    engine.script().events = None;
    watched.until_hosts(&["a.example"]).await;
}

#[tokio::test]
async fn an_engine_that_stops_answering_pings_is_dialled_anew() {
    let engine = FakeEngine::started(&json!([]));
    let mut watched = Watched::with(&engine, |config| config.ping = Duration::from_millis(50));
    watched.until_hosts(&[]).await;
    engine.script().ping = Answer::Silence;
    engine.script().services = Answer::Silence;
    watched.until_unreachable("answer a ping").await;
    engine.script().ping = Answer::error(403, "the proxy forbids it, but it answers");
    engine.script().services = Answer::json(&json!([site("a", "a.example")]));
    watched.until_hosts(&["a.example"]).await;
}

#[tokio::test]
async fn a_host_that_can_not_be_dialled_is_told_with_the_fix() {
    for (host, text) in [
        ("ssh://somewhere", "'ssh://somewhere'"),
        ("", "--docker-host"),
        ("/nowhere/docker.sock", "/nowhere/docker.sock"),
        ("tcp://127.0.0.1:1", "127.0.0.1:1"),
        ("http://", "--docker-host"),
    ] {
        let engine = FakeEngine::new(&json!([]));
        let mut watched = Watched::with(&engine, |config| config.host = Some(host.to_owned()));
        watched.until_unreachable(text).await;
    }
}

#[tokio::test]
async fn the_watch_ends_with_the_shutdown_wherever_it_is() {
    let running = FakeEngine::started(&json!([]));
    let silent = FakeEngine::started(&json!([]));
    silent.script().services = Answer::Silence;
    let absent = FakeEngine::new(&json!([]));
    for engine in [&running, &silent, &absent] {
        let shutdown = CancellationToken::new();
        let config = Config { host: Some(engine.socket().display().to_string()), ..Config::default() };
        let watcher = roo_docker::watch(config, shutdown.clone());
        tokio::task::yield_now().await;
        shutdown.cancel();
        timeout(PATIENCE, watcher.task).await.unwrap().unwrap();
        assert_eq!(watcher.handle.rescan().await, Err(RescanError));
    }
}
