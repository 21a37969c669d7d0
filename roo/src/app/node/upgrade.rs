//! The end of a node that another process of the same node takes over from.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Next, Node, STOP_TIMEOUT};
use crate::app::handover::{Giver, Named, running_program};
use crate::app::signals::Stop;
use crate::app::supervisor;
use crate::cli::Failure;
use crate::config::Mode;

/// Somebody who wants this process replaced, and waits for the version of the one that will, or for what is in the way.
pub(crate) type Request = oneshot::Sender<Result<String, String>>;

/// How long the store may take to end. Nobody waits for it, since the proxy serves on, and who takes over can't begin
/// before.
const STORE_STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How many may wait for an upgrade at a time.
const REQUESTS_MAX: usize = 4;

pub(super) fn channel() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(REQUESTS_MAX)
}

impl Node {
    /// Starts the program anew and gives it the sockets. Nothing changes here.
    ///
    /// # Errors
    /// What is in the way, in a sentence.
    pub(super) async fn begin_upgrade(&self) -> Result<Giver, String> {
        if self.mode == Mode::Dev {
            return Err("`roo dev` is not upgraded: start it again".to_owned());
        }
        if std::process::id() == 1 {
            return Err(
                "the container would end with this process, which is its first: replace the container".to_owned()
            );
        }
        let sockets = self.sockets().map_err(|error| format!("the sockets can't be copied: {error}"))?;
        // Not the running file, which may have been replaced by a new version: that one is meant.
        let program = std::env::args_os().next().unwrap_or_else(|| "roo".into());
        let started = tokio::task::spawn_blocking(move || Giver::start(&program, &sockets)).await;
        started.map_err(|error| format!("starting the next process failed: {error}"))?
    }

    fn sockets(&self) -> io::Result<Vec<Named>> {
        let own = self
            .copies
            .iter()
            .map(|Named { name, listener }| Ok(Named { name: *name, listener: listener.try_clone()? }));
        own.chain(self.proxy.sockets()?.into_iter().map(|socket| Ok(socket.into()))).collect()
    }

    /// Ends everything but the proxy, gives the store to the next process, and drains once that one serves.
    pub(super) async fn hand_over(self, giver: Giver, mut stop: Stop, drain: Duration) -> Result<Next, Failure> {
        tracing::info!(version = giver.version, "another process takes over");
        let sockets = self.sockets();
        let Self { proxy, store, tasks, stopping, shutdown, copies, .. } = self;
        stopping.cancel();
        shutdown.cancel();
        let handing_over = async {
            let rest = async {
                for task in tasks {
                    // A task that panicked has said so; nothing is left to do for it.
                    let _ = task.await;
                }
            };
            if timeout(STOP_TIMEOUT, rest).await.is_err() {
                tracing::debug!("a task did not end in time");
            }
            if timeout(STORE_STOP_TIMEOUT, store.shutdown()).await.is_err() {
                tracing::warn!("the store did not stop in time; its log is on disk");
            }
            let reason = match giver.give_store().await {
                Ok(next) => return Ok(next),
                Err(reason) => reason,
            };
            tracing::error!(reason, "the upgrade failed; the version that runs takes over from itself");
            let sockets = sockets.map_err(|error| format!("{reason}; the sockets can't be copied: {error}"))?;
            let again = tokio::task::spawn_blocking(move || Giver::start(&running_program(), &sockets)).await;
            again.map_err(|error| error.to_string())??.give_store().await
        };
        let outcome = tokio::select! {
            outcome = handing_over => outcome,
            () = stop.asked() => Err("stopped by a signal while another process took over".to_owned()),
        };
        drop(copies);
        match &outcome {
            Ok(next) => {
                supervisor::tell(NotifyState::MainPid(*next));
                tracing::info!(process = next, "the next process serves; open requests get {} s", drain.as_secs());
            }
            Err(reason) => tracing::error!(reason, "nobody has taken over; the node ends; start it again"),
        }
        tokio::select! {
            () = proxy.shutdown(drain) => {}
            () = stop.asked() => {}
        }
        outcome.map(|_| Next::End).map_err(|reason| Failure::Failed(format!("{reason}; start the node again")))
    }
}
