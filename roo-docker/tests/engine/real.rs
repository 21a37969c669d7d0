//! The machine's own engine, asked and never changed.

use std::{path::Path, time::Duration};

use roo_docker::{Config, State};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Whether the engine manages a swarm is none of this test's business: that it is understood is.
#[tokio::test]
async fn the_real_engine_is_understood() {
    if !Path::new("/var/run/docker.sock").exists() {
        eprintln!("skipped: no Docker engine on this machine");
        return;
    }
    let shutdown = CancellationToken::new();
    let mut watcher = roo_docker::watch(Config::default(), shutdown.clone());
    let heard =
        timeout(Duration::from_secs(30), watcher.snapshots.wait_for(|snapshot| snapshot.state != State::Connecting));
    let snapshot = heard.await.unwrap().unwrap().clone();
    match &snapshot.state {
        State::Watching => assert!(snapshot.synced_at.is_some()),
        State::NotManager { message } => assert!(message.contains("swarm"), "{message}"),
        State::Unreachable { error } if error.contains("ermission denied") => {
            eprintln!("skipped: this user may not ask the engine");
        }
        other => panic!("{other:?}"),
    }
    shutdown.cancel();
    timeout(Duration::from_secs(30), watcher.task).await.unwrap().unwrap();
}
