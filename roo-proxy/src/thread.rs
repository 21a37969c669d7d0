//! The proxy's threads, each with an event loop of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::runtime::{Builder, Handle, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::proxy::{StartError, Stop};
use crate::upstream::names::{self, Names};
use crate::worker::{self, Doors, Seed, Worker};

/// Starts a worker. The receiver resolves when its thread is at its end.
pub(crate) fn start_worker(seed: Seed, doors: Doors) -> Result<oneshot::Receiver<()>, StartError> {
    let (alive, ended) = oneshot::channel();
    spawn(&format!("roo-proxy-{}", seed.index), move |runtime, started| {
        let _alive = Alive { _sender: alive, stop: seed.stop.clone() };
        let registered = {
            let _context = runtime.enter();
            doors.first.into_iter().map(worker::register).collect::<io::Result<Vec<_>>>()
        };
        let first = match registered {
            Ok(first) => first,
            Err(fault) => return drop(started.send(Err(fault))),
        };
        let _ = started.send(Ok(()));
        runtime.block_on(async { worker::run(Worker::new(seed), first, doors.more).await });
        // With its tasks the worker goes, and with it the last lines of its log: before anybody is told.
        drop(runtime);
    })?;
    Ok(ended)
}

/// Tells the proxy when its worker's thread is at its end, and that this was not meant to be if it was not.
struct Alive {
    _sender: oneshot::Sender<()>,
    stop: Stop,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.stop.drain.is_cancelled() {
            tracing::error!("a proxy worker ended by itself");
            self.stop.failed.cancel();
        }
    }
}

/// Starts the thread on which upstream names are kept fresh. It ends with `cut`.
pub(crate) fn start_names(server: Option<SocketAddr>, cut: CancellationToken) -> Result<Arc<Names>, StartError> {
    spawn("roo-names", move |runtime, started| {
        let handle = Handle::clone(runtime.handle());
        runtime.block_on(async move {
            let resolver = match names::resolver(server) {
                Ok(resolver) => resolver,
                Err(fault) => return drop(started.send(Err(io::Error::other(fault)))),
            };
            let _ = started.send(Ok(Arc::new(Names::new(resolver, handle))));
            cut.cancelled().await;
        });
    })
}

/// Runs `main` on a new thread with an event loop, and waits until it says that it has started.
fn spawn<T, F>(name: &str, main: F) -> Result<T, StartError>
where
    T: Send + 'static,
    F: FnOnce(LocalRuntime, SyncSender<io::Result<T>>) + Send + 'static,
{
    let (started, outcome) = sync_channel(1);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => main(runtime, started),
            Err(fault) => drop(started.send(Err(fault))),
        })
        .map_err(|source| StartError::Thread { source })?;
    match outcome.recv() {
        Ok(result) => result.map_err(|source| StartError::Runtime { source }),
        Err(_) => Err(StartError::Runtime { source: io::Error::other("the thread ended before it started") }),
    }
}
