//! What the engine of this machine says of its containers the moment it happens: tasks that end without the swarm having
//! wanted it, or before it tells.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, pin_mut};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    client::{Engine, EngineError},
    tls::Tls,
    watcher::keep_alive,
};

/// A task of this machine that ends or is ill: it is to get nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// The full name of its service.
    pub service: String,
    /// The engine's id of it.
    pub task: String,
}

/// An event of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContainerEvent {
    pub(crate) container: String,
    /// `kill`, `die`, `health_status: unhealthy`.
    pub(crate) action: String,
    /// Labels, and what belongs to the action.
    pub(crate) attributes: HashMap<String, String>,
}

/// What an event means for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Nothing,
    Ends,
    /// It was sent this signal, which may be the one that ends it.
    Signalled(i32),
}

/// Follows the containers of the engine at `host` (see [`crate::Config::host`]) until `shutdown`, whatever part the
/// engine has in a swarm. Must be called inside a tokio runtime.
///
/// Never fails: an engine that is away is tried again with growing pauses up to `retry_max`, without a word, since the
/// watch of services tells of it.
pub fn follow_signals(
    host: Option<String>,
    tls: Option<Tls>,
    retry_max: Duration,
    shutdown: CancellationToken,
) -> mpsc::Receiver<Stopping> {
    let (sender, stopping) = mpsc::channel(NOTICES_MAX);
    tokio::spawn(async move {
        shutdown.run_until_cancelled(run(host, tls, retry_max, sender)).await;
    });
    stopping
}

async fn run(host: Option<String>, tls: Option<Tls>, retry_max: Duration, sender: mpsc::Sender<Stopping>) {
    let mut backoff = Backoff::new(RETRY_MIN.min(retry_max), retry_max);
    loop {
        let error = match Engine::connect(host.as_deref(), tls.as_ref()) {
            Ok(engine) => tokio::select! {
                error = listen(&engine, &sender, &mut backoff) => error,
                error = keep_alive(&engine, PING) => error,
            },
            Err(error) => error,
        };
        tracing::debug!(%error, "the containers of this machine are not seen; tried again");
        sleep(backoff.pause()).await;
    }
}

async fn listen(engine: &Engine, sender: &mpsc::Sender<Stopping>, backoff: &mut Backoff) -> EngineError {
    let events = engine.container_events();
    pin_mut!(events);
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                backoff.reset();
                if let Some(stopping) = event.task()
                    && ends(engine, &event).await
                    && sender.send(stopping).await.is_err()
                {
                    return EngineError::EventsEnded;
                }
            }
            Some(Err(error)) => return error,
            None => return EngineError::EventsEnded,
        }
    }
}

async fn ends(engine: &Engine, event: &ContainerEvent) -> bool {
    match event.meaning() {
        Meaning::Nothing => false,
        Meaning::Ends => true,
        Meaning::Signalled(signal) => {
            let own = engine.stop_signal(&event.container).await;
            own.is_some_and(|own| number(&own) == Some(signal))
        }
    }
}

impl ContainerEvent {
    /// The task that the container is, if it is one.
    fn task(&self) -> Option<Stopping> {
        let label = |name: &str| self.attributes.get(&format!("com.docker.swarm.{name}")).cloned();
        Some(Stopping { service: label("service.name")?, task: label("task.id")? })
    }

    fn meaning(&self) -> Meaning {
        match self.action.as_str() {
            "die" | "stop" | "health_status: unhealthy" => Meaning::Ends,
            "kill" => match self.attributes.get("signal").and_then(|signal| signal.parse().ok()) {
                Some(SIGKILL | SIGTERM) => Meaning::Ends,
                Some(signal) => Meaning::Signalled(signal),
                None => Meaning::Nothing,
            },
            _ => Meaning::Nothing,
        }
    }
}

/// The number of a signal by its name, as images give it: `SIGQUIT`, `QUIT` or `3` (signal(7)). Those alone that programs
/// end at.
fn number(signal: &str) -> Option<i32> {
    let name = signal.trim().to_ascii_uppercase();
    match name.strip_prefix("SIG").unwrap_or(&name) {
        "HUP" => Some(1),
        "INT" => Some(2),
        "QUIT" => Some(3),
        "KILL" => Some(SIGKILL),
        "USR1" => Some(10),
        "USR2" => Some(12),
        "TERM" => Some(SIGTERM),
        "WINCH" => Some(28),
        "RTMIN+3" => Some(37),
        number => number.parse().ok(),
    }
}

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Notices that wait to be written.
const NOTICES_MAX: usize = 1024;

const RETRY_MIN: Duration = Duration::from_millis(250);

/// How often a silent engine is asked whether it is still there.
const PING: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, signal: Option<&str>) -> ContainerEvent {
        let attributes = signal.map(|signal| ("signal".to_owned(), signal.to_owned())).into_iter().collect();
        ContainerEvent { container: "c".to_owned(), action: action.to_owned(), attributes }
    }

    #[test]
    fn what_ends_a_container_is_told_from_what_does_not() {
        for (action, signal, meaning) in [
            ("die", None, Meaning::Ends),
            ("stop", None, Meaning::Ends),
            ("kill", Some("9"), Meaning::Ends),
            ("kill", Some("15"), Meaning::Ends),
            ("kill", Some("3"), Meaning::Signalled(3)),
            ("kill", None, Meaning::Nothing),
            ("health_status: unhealthy", None, Meaning::Ends),
            ("health_status: healthy", None, Meaning::Nothing),
            ("start", None, Meaning::Nothing),
        ] {
            assert_eq!(event(action, signal).meaning(), meaning, "{action} {signal:?}");
        }
        for (name, value) in
            [("SIGQUIT", Some(3)), ("quit", Some(3)), ("28", Some(28)), ("SIGWINCH", Some(28)), ("", None)]
        {
            assert_eq!(number(name), value, "{name}");
        }
    }
}
