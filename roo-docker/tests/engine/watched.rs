//! A watch under test.

use std::{sync::Arc, time::Duration};

use roo_docker::{Config, Snapshot, State, Subnets, Watcher};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fake::FakeEngine;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any test: what should come by itself then comes by events or not at all.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// The watch under test.
pub(crate) struct Watched {
    pub(crate) watcher: Watcher,
    shutdown: CancellationToken,
}

impl Watched {
    /// With pauses short where a test waits for them, and without resync.
    pub(crate) fn new(engine: &FakeEngine) -> Self {
        Self::with(engine, |_| {})
    }

    pub(crate) fn with(engine: &FakeEngine, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(engine);
        adjust(&mut config);
        let shutdown = CancellationToken::new();
        let watcher = roo_docker::watch(config, shutdown.clone());
        Self { watcher, shutdown }
    }

    /// Waits for a snapshot like this.
    pub(crate) async fn until(&mut self, what: &str, like: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found = timeout(PATIENCE, self.watcher.snapshots.wait_for(|snapshot| like(snapshot)));
        if let Ok(snapshot) = found.await {
            return snapshot.unwrap().clone();
        }
        panic!("never saw: {what}; last: {:#?}", self.watcher.snapshots.borrow());
    }

    pub(crate) async fn until_hosts(&mut self, hosts: &[&str]) -> Arc<Snapshot> {
        let what = format!("watching {hosts:?}");
        self.until(&what, |snapshot| snapshot.state == State::Watching && self::hosts(snapshot) == hosts).await
    }

    /// Waits for [`State::Unreachable`] with this in its text.
    pub(crate) async fn until_unreachable(&mut self, text: &str) -> Arc<Snapshot> {
        let what = format!("unreachable: {text}");
        let like =
            |snapshot: &Snapshot| matches!(&snapshot.state, State::Unreachable { error } if error.contains(text));
        self.until(&what, like).await
    }
}

/// With pauses short where a test waits for them, and without resync.
pub(crate) fn config(engine: &FakeEngine) -> Config {
    Config {
        host: Some(format!("unix://{}", engine.socket().display())),
        tls: None,
        debounce: Duration::from_millis(20),
        tasks_moving: Duration::from_millis(20),
        tasks_quiet: Duration::from_millis(20),
        subnets: Subnets::Fixed(vec!["10.0.0.0/24".parse().unwrap(), "10.0.1.0/24".parse().unwrap()]),
        resync: NEVER,
        ping: NEVER,
        retry: Duration::from_millis(20),
        not_manager_retry: Duration::from_millis(20),
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn hosts(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.routes().map(|(_, route)| route.host.as_str()).collect()
}

/// Waits until a condition of the engine holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}
