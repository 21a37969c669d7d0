//! What an engine says of its own containers.

use roo_docker::Stopping;
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, FakeEngine, container_event};
use crate::watched::{PATIENCE, config, eventually};

struct Followed {
    stopping: mpsc::Receiver<Stopping>,
    shutdown: CancellationToken,
}

impl Followed {
    fn new(engine: &FakeEngine) -> Self {
        let shutdown = CancellationToken::new();
        Self { stopping: roo_docker::follow_containers(config(engine), shutdown.clone()).stopping, shutdown }
    }

    async fn next(&mut self) -> String {
        let Stopping { service, task } = timeout(PATIENCE, self.stopping.recv()).await.unwrap().unwrap();
        assert_eq!(service, "a");
        task
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_task_that_is_killed_dies_or_falls_ill_is_told_at_once() {
    // No manager, as most nodes of a swarm.
    let engine = FakeEngine::started(&json!([]));
    engine.script().services = Answer::error(503, "This node is not a swarm manager.");
    let stops_with = |signal: &str| Answer::json(&json!({ "Id": "c", "Config": { "StopSignal": signal } }));
    engine.script().containers.insert("quits".to_owned(), stops_with("SIGQUIT"));
    engine.script().containers.insert("terms".to_owned(), Answer::json(&json!({ "Id": "c", "Config": {} })));
    let mut followed = Followed::new(&engine);
    eventually("the event stream opens", || engine.emit("") > 0).await;
    for (action, container, task, signal) in [
        ("health_status: healthy", "c", "t0", None),
        ("kill", "c", "t1", Some("15")),
        ("kill", "c", "t2", Some("9")),
        ("die", "c", "t3", None),
        ("health_status: unhealthy", "c", "t4", None),
        // To one it means to reload, to the other to end.
        ("kill", "terms", "t5", Some("3")),
        ("kill", "quits", "t6", Some("3")),
        ("kill", "gone", "t7", Some("1")),
        ("stop", "c", "t8", None),
    ] {
        engine.emit(&container_event(action, container, task, signal));
    }
    let mut told = Vec::new();
    while told.last().is_none_or(|task| task != "t8") {
        told.push(followed.next().await);
    }
    assert_eq!(told, ["t1", "t2", "t3", "t4", "t6", "t8"]);
}

#[tokio::test]
async fn an_engine_that_was_gone_is_followed_again() {
    let mut engine = FakeEngine::new(&json!([]));
    let mut followed = Followed::new(&engine);
    engine.start();
    eventually("the event stream opens", || engine.emit("") > 0).await;
    engine.emit("nonsense\n");
    engine.stop().await;
    engine.start();
    eventually("the event stream opens", || engine.emit("") > 0).await;
    engine.emit(&container_event("die", "c", "t1", None));
    assert_eq!(followed.next().await, "t1");
}
