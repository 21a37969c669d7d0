//! Containers without a service.

use roo_docker::{Snapshot, State, Stopping};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, FakeEngine, container, plain_event};
use crate::watched::{PATIENCE, config, eventually, hosts};

#[tokio::test]
async fn containers_come_and_go_with_the_events_of_any_engine() {
    let mut engine = FakeEngine::started(&json!([]));
    engine.script().services = Answer::error(503, "This node is not a swarm manager.");
    engine.script().running = vec![container("c1", "web", "a.example", "10.0.1.1")];
    let shutdown = CancellationToken::new();
    let mut followed = roo_docker::follow_containers(config(&engine), shutdown.clone());
    let mut until = async |what: &str, like: &dyn Fn(&Snapshot) -> bool| {
        let found = timeout(PATIENCE, followed.snapshots.wait_for(|snapshot| like(snapshot))).await;
        found.unwrap_or_else(|_| panic!("never: {what}")).unwrap().clone()
    };
    let snapshot = until("the first", &|snapshot| hosts(snapshot) == ["a.example"]).await;
    assert_eq!(snapshot.services[0].name, "web");
    assert_eq!(snapshot.services[0].tasks[0].address.to_string(), "10.0.1.1");

    eventually("the event stream opens", || engine.emit("") > 0).await;
    engine.script().running.push(container("c2", "api.v1", "b.example", "10.0.1.2"));
    engine.emit(&plain_event("start", "c2", "api.v1"));
    let snapshot = until("the second", &|snapshot| hosts(snapshot).len() == 2).await;
    assert_eq!(snapshot.services[0].routes[0].to[0].url, "http://tasks.api-v1:80");

    // Away: what was seen stays.
    engine.stop().await;
    let away = |snapshot: &Snapshot| matches!(snapshot.state, State::Unreachable { .. });
    let snapshot = until("that it is away", &away).await;
    assert_eq!(hosts(&snapshot).len(), 2);
    engine.script().running.remove(0);
    engine.start();
    until("the one that is left", &|snapshot| hosts(snapshot) == ["b.example"]).await;

    eventually("the event stream opens", || engine.emit("") > 0).await;
    let asked = engine.asked("/containers/json");
    engine.emit(&plain_event("die", "c2", "api.v1"));
    eventually("it is asked", || engine.asked("/containers/json") > asked).await;
    // The list was behind the event.
    engine.script().running.clear();
    until("none", &|snapshot| snapshot.services.is_empty()).await;
    let told = timeout(PATIENCE, followed.stopping.recv()).await.unwrap();
    assert_eq!(told, Some(Stopping { service: "api-v1".to_owned(), task: "c2".to_owned() }));
    shutdown.cancel();
}
