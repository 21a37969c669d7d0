//! Profiles of the running process: processor time by sampling, memory by jemalloc's own bookkeeping.
//!
//! Both are profile.proto, the format of <https://github.com/google/pprof>. The processor profile walks frame
//! pointers, which is why everything is built with them: unwinding by tables in a signal handler is not safe.

use std::time::Duration;

use pprof::protos::Message;
use tokio::sync::Mutex;

/// Samples per second and thread. Not a round number, so that it does not beat with timers.
const FREQUENCY: i32 = 99;
/// Never interrupted inside these: their code keeps no frame pointers.
const BLOCKLIST: &[&str] = &["libc", "libgcc", "pthread", "vdso"];

/// One processor profile at a time.
static RUNNING: Mutex<()> = Mutex::const_new(());

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("a profile is being taken already; try again when it is done")]
    Busy,
    #[error("the profile could not be taken: {reason}")]
    Failed { reason: String },
}

fn failed(reason: impl std::fmt::Display) -> ProfileError {
    ProfileError::Failed { reason: reason.to_string() }
}

/// Where processor time is spent during the next `time`. Dropping the future ends the sampling.
pub(crate) async fn cpu(time: Duration) -> Result<Vec<u8>, ProfileError> {
    let _one = RUNNING.try_lock().map_err(|_| ProfileError::Busy)?;
    let guard =
        pprof::ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(BLOCKLIST).build().map_err(failed)?;
    tokio::time::sleep(time).await;
    tokio::task::spawn_blocking(move || {
        let report = guard.report().build().map_err(failed)?;
        Ok(report.pprof().map_err(failed)?.encode_to_vec())
    })
    .await
    .map_err(failed)?
}

/// What holds memory now, of what was allocated since [`start_heap`].
pub(crate) async fn heap() -> Result<Vec<u8>, ProfileError> {
    let control =
        jemalloc_pprof::PROF_CTL.as_ref().ok_or_else(|| failed("the allocator was built without profiles"))?;
    let mut control = control.clone().lock_owned().await;
    tokio::task::spawn_blocking(move || control.dump_pprof().map_err(failed)).await.map_err(failed)?
}

/// Lets the allocator sample from now on, about once in 512 KiB.
pub(crate) async fn start_heap() {
    jemalloc_pprof::activate_jemalloc_profiling().await;
}
