//! What the engine is asked, against what the guide says of it.

use std::time::Duration;

use roo_docker::Stopping;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, FakeEngine, container_event, fits, image, task, unpublished};
use crate::watched::{PATIENCE, Watched, config, eventually};

/// The paths of the guide's table.
fn documented() -> Vec<String> {
    let guide = include_str!("../../../docs/swarm.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `GET ")?.split_once('`'));
    rows.map(|(path, _)| path.to_owned()).collect()
}

#[tokio::test]
async fn a_proxy_that_lets_the_documented_calls_through_is_enough() {
    let documented = documented();
    assert!(documented.len() > 4, "{documented:?}");
    let engine = FakeEngine::started(&json!([unpublished("a", &json!({ "roo.host": "a.example" }), "x")]));
    {
        let mut script = engine.script();
        script.let_through = documented.clone();
        script.images.insert("x".to_owned(), image(&["80/tcp"]));
        script.tasks = vec![task("t1", "a", "running", "running", "10.0.1.1")];
        let stops_with = Answer::json(&json!({ "Id": "c", "Config": { "StopSignal": "SIGQUIT" } }));
        script.containers.insert("c".to_owned(), stops_with);
    }
    let mut watched = Watched::with(&engine, |config| config.ping = Duration::from_millis(20));
    watched.until("the task", |snapshot| snapshot.services.iter().any(|service| service.tasks.len() == 1)).await;
    let shutdown = CancellationToken::new();
    let mut stopping = roo_docker::follow_containers(config(&engine), shutdown.clone()).stopping;
    eventually("both event streams open", || engine.emit("") > 1).await;
    engine.emit(&container_event("kill", "c", "t1", Some("3")));
    let told = tokio::time::timeout(PATIENCE, stopping.recv()).await.unwrap();
    assert_eq!(told, Some(Stopping { service: "a".to_owned(), task: "t1".to_owned() }));
    eventually("a ping", || engine.asked("/_ping") > 0).await;
    shutdown.cancel();

    let asked = engine.script().requests.clone();
    let paths: Vec<&str> = asked.iter().map(|request| request.split('?').next().unwrap()).collect();
    for path in &paths {
        assert!(documented.iter().any(|pattern| fits(pattern, path)), "{path} is not in docs/swarm.md");
    }
    // Networks are for those who look for the other tasks of their own service, which is asked elsewhere.
    for pattern in documented.iter().filter(|pattern| !pattern.starts_with("/networks/")) {
        assert!(paths.iter().any(|path| fits(pattern, path)), "{pattern} of docs/swarm.md was never asked for");
    }
}
