//! Work that waits for a disk or takes long, kept off the async workers. The only place that starts such work, so
//! that a simulation can run it in its one thread.

use std::future::Future;
use std::io;

/// Begins the work at once and returns its result. The work runs to its end even if the future is dropped.
///
/// # Errors
/// What the work fails with; also if it panicked, or if the runtime is being shut down.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send {
    let working = begin(work);
    async move { working.await.map_err(io::Error::other).flatten() }
}

#[cfg(not(test))]
use tokio::task::spawn_blocking as begin;

#[cfg(test)]
use super::simulated::begin;
