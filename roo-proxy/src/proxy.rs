//! A running proxy: its threads, from start to drain.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::access::Writer;
use crate::config::Config;
use crate::control::{Control, Shared};
use crate::event::{self, Events};
use crate::listener::{Bound, Listeners, ListeningSocket};
use crate::origin::Scheme;
use crate::ports::Opener;
use crate::tls::{Configs, TlsPolicy};
use crate::worker::Seed;
use crate::{metric, thread, view};

/// A running proxy. Dropping it cuts every connection; [`Proxy::shutdown`] drains them.
pub struct Proxy {
    shared: Arc<Shared>,
    stop: Stop,
    /// The listening sockets once more, to be given to another process.
    sockets: Vec<(Scheme, TcpListener)>,
    /// Each resolves, with an error, once its worker's thread is at its end.
    workers: Vec<oneshot::Receiver<()>>,
}

/// The two steps of stopping as the workers see them, and the one that must not happen.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// No new connections and no new requests; let what runs end.
    pub(crate) drain: CancellationToken,
    /// End now.
    pub(crate) cut: CancellationToken,
    /// A worker is gone that was not stopped.
    pub(crate) failed: CancellationToken,
    /// Before the other two: connections are accepted.
    pub(crate) opened: CancellationToken,
}

impl Proxy {
    /// Starts one thread per worker of the listeners. It serves nothing but 404 until routes are set.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread or its event loop.
    pub fn start(listeners: Listeners, config: Config) -> Result<(Proxy, Events), StartError> {
        metric::describe();
        let (sender, events) = event::channel();
        let access = config.access_log.clone().map(Writer::start).transpose();
        let access = access.map_err(|source| StartError::Thread { source })?;
        let (inquiring, inquired): (Vec<_>, Vec<_>) =
            (0..listeners.workers()).map(|_| mpsc::channel(view::INQUIRIES_MAX)).unzip();
        let shared = Arc::new(Shared::new(config, &listeners, sender, access, inquiring));
        let tls = Configs::new(&shared.tls, &TlsPolicy::default()).map_err(|source| StartError::Tls { source })?;
        let tls = Arc::new(tls);
        // Dropped on an early return, it stops the threads that were started.
        let sockets = copies(&listeners).map_err(|source| StartError::Socket { source })?;
        let mut proxy = Proxy { shared: shared.clone(), stop: Stop::default(), sockets, workers: Vec::new() };
        let names = thread::start_names(shared.config.resolver, proxy.stop.cut.clone())?;
        let _ = shared.names.set(names.clone());
        let (opener, doors) = Opener::new(shared.clone(), listeners, &proxy.stop);
        if shared.config.opens_ports {
            names.spawn(opener.run());
        }
        for ((index, doors), inquiries) in doors.into_iter().enumerate().zip(inquired) {
            let seed = Seed {
                index,
                shared: shared.clone(),
                tls: tls.clone(),
                stop: proxy.stop.clone(),
                names: names.clone(),
                inquiries,
            };
            proxy.workers.push(thread::start_worker(seed, doors)?);
        }
        if !proxy.shared.config.opens_later {
            proxy.open();
        }
        Ok((proxy, events))
    }

    /// Lets connections in that have waited since the ports were bound, if [`Config::opens_later`] kept them.
    pub fn open(&self) {
        self.stop.opened.cancel();
    }

    /// Copies of all sockets that are listened on, for another process to go on with: whoever connects finds no gap, as
    /// long as that one accepts before this proxy is shut down.
    ///
    /// # Errors
    ///
    /// If the system gives no more descriptors.
    pub fn sockets(&self) -> io::Result<Vec<ListeningSocket>> {
        let copy = |scheme: Scheme, is_routes, listener: &TcpListener| {
            Ok(ListeningSocket { scheme, is_routes, listener: listener.try_clone()? })
        };
        let fixed = self.sockets.iter().map(|(scheme, listener)| copy(*scheme, false, listener));
        let ports = self.shared.ports.load();
        fixed.chain(ports.sockets.iter().map(|(scheme, listener)| copy(*scheme, true, listener))).collect()
    }

    /// A handle to publish snapshots with.
    pub fn control(&self) -> Control {
        Control(self.shared.clone())
    }

    /// Resolves when a worker has ended by itself, which only a fault in the proxy can bring about: the
    /// process should stop. Otherwise never. Dropping the future loses nothing.
    pub async fn failed(&self) {
        self.stop.failed.cancelled().await;
    }

    /// Drains: stops accepting, tells HTTP/2 clients to go away, closes HTTP/1.1 connections after their
    /// response, waits up to `deadline`, then cuts what is left. Dropping the future cuts at once.
    pub async fn shutdown(mut self, deadline: Duration) {
        // A port is closed when the last copy of its sockets is.
        self.sockets.clear();
        self.shared.ports.store(Arc::default());
        self.stop.drain.cancel();
        let mut ended = join_all(std::mem::take(&mut self.workers));
        if tokio::time::timeout(deadline, &mut ended).await.is_err() {
            self.stop.cut.cancel();
            // Nothing is waited for any more but the threads themselves.
            let _ = tokio::time::timeout(CUT_WITHIN, ended).await;
        }
        let shared = self.shared.clone();
        // What is left of the access log, off this thread: it waits for the disk, within bounds.
        let _ = tokio::task::spawn_blocking(move || shared.access.as_ref().map(Writer::end)).await;
    }
}

fn copies(listeners: &Listeners) -> io::Result<Vec<(Scheme, TcpListener)>> {
    let sockets =
        |bound: &Bound| bound.sockets.iter().map(|socket| Ok((bound.scheme, socket.try_clone()?))).collect::<Vec<_>>();
    listeners.bound.iter().flat_map(sockets).collect()
}

const CUT_WITHIN: Duration = Duration::from_secs(2);

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
    /// The system gave no more descriptors.
    #[error("cannot copy a listening socket: {source}")]
    Socket {
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
