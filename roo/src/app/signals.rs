//! SIGTERM and SIGINT: the first asks to stop, the second ends the process at once. SIGUSR1: open the access log anew.
//! SIGUSR2: have another process take over.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Failure;

/// The signal that asks to open log files anew. Taken over from now on, also where there is none: by default it would end
/// the process.
pub(crate) fn reopen() -> Result<Signal, Failure> {
    listen(SignalKind::user_defined1())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Failed(format!("can't listen for signals: {error}")))
}

/// The signals that ask to stop.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Takes the signals over from now on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Completes when a signal comes. Nothing is lost if the future is dropped.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The signal that asks for another process to take over.
pub(crate) struct Upgrade(Signal);

impl Upgrade {
    /// Takes the signal over from now on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        listen(SignalKind::user_defined2()).map(Self)
    }

    /// Completes when a signal comes. Nothing is lost if the future is dropped.
    pub(crate) async fn asked(&mut self) {
        self.0.recv().await;
    }
}
