//! A node of the cluster: an issuer with its own way to the store.

use std::sync::Arc;
use std::time::Duration;

use roo_acme::{Authority, Issuer, Settings};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::vault::{Cluster, NodeVault};

/// A running issuer; killed, not stopped, when dropped.
pub(crate) struct Node {
    pub(crate) vault: Arc<NodeVault>,
    pub(crate) nudges: mpsc::Sender<String>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    pub(crate) fn start(cluster: &Arc<Cluster>, authority: Authority) -> Self {
        Self::start_with(NodeVault::new(cluster), cluster, authority)
    }

    pub(crate) fn start_with(vault: Arc<NodeVault>, cluster: &Arc<Cluster>, authority: Authority) -> Self {
        show_logs();
        Self::start_configured(vault, cluster, authority, quick())
    }

    pub(crate) fn start_configured(
        vault: Arc<NodeVault>,
        cluster: &Arc<Cluster>,
        authority: Authority,
        settings: Settings,
    ) -> Self {
        let (nudges, receiver) = mpsc::channel(16);
        let shutdown = CancellationToken::new();
        let (wanted, have) = (cluster.wanted.subscribe(), cluster.have.subscribe());
        let issuer = Issuer::new(vault.clone(), authority, wanted, have, receiver)
            .with_wishes(cluster.wishes.subscribe())
            .with_settings(settings);
        let task = tokio::spawn(issuer.run(shutdown.clone()));
        Self { vault, nudges, shutdown, task }
    }

    /// Stops in good order.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
    }

    /// Stops as by `kill -9`: nothing is cleaned up.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A short life of the claim, so that a takeover does not take the test's time.
pub(crate) fn quick() -> Settings {
    Settings { claim_ttl: Duration::from_millis(1500), claim_retry: Duration::from_millis(100), ..Settings::default() }
}

fn show_logs() {
    let filter = "roo_acme=debug";
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
