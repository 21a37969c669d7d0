//! A running proxy: its threads, from start to drain.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::{Control, Shared};
use crate::event::{self, Events};
use crate::listener::Listeners;

/// A running proxy. Dropping it cuts every connection; [`Proxy::shutdown`] drains them.
pub struct Proxy {
    shared: Arc<Shared>,
    stop: Stop,
    workers: Vec<oneshot::Receiver<()>>,
}

/// The two steps of stopping, as the workers see them.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// No new connections and no new requests; let what runs end.
    pub(crate) drain: CancellationToken,
    /// End now.
    pub(crate) cut: CancellationToken,
}

impl Proxy {
    /// Starts one thread per worker of the listeners. It serves nothing but 404 until routes are set.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread or its event loop.
    pub fn start(listeners: Listeners, config: Config) -> Result<(Proxy, Events), StartError> {
        let (sender, events) = event::channel();
        let https_port = config.https_port.unwrap_or(listeners.https().port());
        let shared = Arc::new(Shared::new(config, https_port, sender));
        let proxy = Proxy { shared, stop: Stop::default(), workers: Vec::new() };
        Ok((proxy, events))
    }

    /// A handle to publish snapshots with.
    pub fn control(&self) -> Control {
        Control(self.shared.clone())
    }

    /// Drains: stops accepting, tells HTTP/2 clients to go away, closes HTTP/1.1 connections after their
    /// response, waits up to `deadline`, then cuts what is left. Dropping the future cuts at once.
    pub async fn shutdown(mut self, deadline: Duration) {
        self.stop.drain.cancel();
        let workers = std::mem::take(&mut self.workers);
        let ended = async {
            for worker in workers {
                // An error means that the worker is gone, which is what is waited for.
                let _ = worker.await;
            }
        };
        let _ = tokio::time::timeout(deadline, ended).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.drain.cancel();
        self.stop.cut.cancel();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// A proxy that could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused a thread.
    #[error("cannot start a worker thread: {source}")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused an event loop or a socket's registration with it.
    #[error("cannot start a worker's event loop: {source}")]
    Runtime {
        /// The system's reason.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {source}")]
    Tls {
        /// The reason.
        source: rustls::Error,
    },
}
