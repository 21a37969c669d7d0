//! Where services run, as the watch tells it.

use std::time::Duration;

use roo_docker::{Snapshot, TaskState};
use serde_json::json;

use crate::fake::{Answer, FakeEngine, event, service, site, task};
use crate::watched::{NEVER, Watched, eventually};

/// Each task by id, address and state.
fn tasks(snapshot: &Snapshot) -> Vec<(String, String, TaskState)> {
    let tasks = snapshot.services.iter().flat_map(|service| &service.tasks);
    tasks.map(|task| (task.id.clone(), task.address.to_string(), task.state)).collect()
}

impl Watched {
    async fn until_tasks(&mut self, wanted: &[(&str, &str, TaskState)]) {
        let wanted: Vec<_> =
            wanted.iter().map(|(id, ip, state)| ((*id).to_owned(), (*ip).to_owned(), *state)).collect();
        self.until(&format!("{wanted:?}"), |snapshot| tasks(snapshot) == wanted).await;
    }
}

const RUNNING: TaskState = TaskState::Running;
const STOPPING: TaskState = TaskState::Stopping;

#[tokio::test]
async fn a_rolling_update_is_followed_task_by_task_without_any_event() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    engine.script().tasks = vec![
        task("t1", "a", "running", "running", "10.0.1.1"),
        task("old", "a", "failed", "shutdown", "10.0.1.7"),
        task("t9", "other", "running", "running", "10.0.1.9"),
    ];
    let mut watched = Watched::new(&engine);
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING)]).await;

    // The new one first: Swarm says `starting` until it is healthy.
    engine.script().tasks.push(task("t2", "a", "starting", "running", "10.0.1.2"));
    let asked = engine.asked("/tasks");
    eventually("it is seen", || engine.asked("/tasks") > asked + 2).await;
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING)]).await;
    engine.script().tasks[3]["Status"]["State"] = json!("running");
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING), ("t2", "10.0.1.2", RUNNING)]).await;
    // Then the old one.
    engine.script().tasks[0]["DesiredState"] = json!("shutdown");
    watched.until_tasks(&[("t1", "10.0.1.1", STOPPING), ("t2", "10.0.1.2", RUNNING)]).await;
    engine.script().tasks[0]["Status"]["State"] = json!("shutdown");
    watched.until_tasks(&[("t2", "10.0.1.2", RUNNING)]).await;
    assert_eq!(engine.asked("/services"), 1, "no event, no look at services");
}

#[tokio::test]
async fn an_event_of_a_service_has_its_tasks_read() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    engine.script().tasks = vec![task("t1", "a", "running", "running", "10.0.1.1")];
    let mut watched = Watched::with(&engine, |config| config.tasks_quiet = NEVER);
    // Often at first, and after an event for a while.
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING)]).await;
    eventually("the event stream opens", || engine.emit("") > 0).await;
    engine.script().tasks.clear();
    engine.emit(&event("update"));
    watched.until_tasks(&[]).await;
}

#[tokio::test]
async fn services_that_nobody_leads_to_are_left_alone_until_somebody_does() {
    let engine = FakeEngine::started(&json!([service("Plain", &json!({}), &json!({}))]));
    engine.script().tasks = vec![task("t1", "Plain", "running", "running", "10.0.1.1")];
    let mut watched = Watched::new(&engine);
    watched.until_hosts(&[]).await;
    assert_eq!(engine.asked("/tasks"), 0);
    watched.watcher.handle.follow(["plain".to_owned(), "absent".to_owned()].into());
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING)]).await;
    watched.watcher.handle.follow(Default::default());
    watched.until_tasks(&[]).await;
}

#[tokio::test]
async fn tasks_that_can_not_be_read_leave_labels_as_they_are() {
    let engine = FakeEngine::started(&json!([site("a", "a.example")]));
    engine.script().tasks = vec![task("t1", "a", "running", "running", "10.0.1.1")];
    let mut watched = Watched::new(&engine);
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING)]).await;
    engine.script().tasks_refused = Some(Answer::error(403, "the proxy forbids it"));
    let told = |snapshot: &Snapshot| snapshot.tasks_error.as_ref().is_some_and(|error| error.contains("forbids"));
    let snapshot = watched.until("that tasks can't be read", told).await;
    assert_eq!(tasks(&snapshot).len(), 1, "what was read last");
    watched.until_hosts(&["a.example"]).await;
    engine.script().tasks_refused = None;
    watched.until("that they can", |snapshot| snapshot.tasks_error.is_none()).await;
    // Nonsense is another matter: who knows what else it gets wrong.
    engine.script().tasks_refused = Some(Answer::raw("[{\"ID\":7}]"));
    watched.until_unreachable("list tasks").await;
    engine.script().tasks_refused = None;
    watched.until_tasks(&[("t1", "10.0.1.1", RUNNING)]).await;
}

#[tokio::test]
async fn a_service_in_no_network_of_ours_is_told_with_the_fix() {
    let engine = FakeEngine::started(&json!([site("a", "a.example"), site("b", "b.example")]));
    engine.script().tasks =
        vec![task("t1", "a", "running", "running", "10.0.2.1"), task("t2", "b", "running", "running", "10.0.1.2")];
    let mut watched = Watched::new(&engine);
    let snapshot = watched.until("a problem", |snapshot| !snapshot.problems.is_empty()).await;
    let [problem] = &snapshot.problems[..] else { panic!("{:?}", snapshot.problems) };
    assert_eq!((problem.service.as_str(), problem.label.as_str()), ("a", "roo.network"));
    assert!(problem.message.contains("shares no network with Roo (it is in forenet)"), "{}", problem.message);
    watched.until_tasks(&[("t2", "10.0.1.2", RUNNING)]).await;

    engine.script().services =
        Answer::json(&json!(
            [service("b", &json!({ "roo.host": "b.example", "roo.network": "backnet" }), &json!({})),]
        ));
    eventually("the event stream opens", || engine.emit("") > 0).await;
    engine.emit(&event("update"));
    let said = "roo.network is 'backnet', which the service is not in (it is in forenet)";
    watched.until(said, |snapshot| snapshot.problems.iter().any(|problem| problem.message.contains(said))).await;
    tokio::time::timeout(Duration::from_secs(30), watched.watcher.handle.rescan()).await.unwrap().unwrap();
}
