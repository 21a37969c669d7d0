//! What the engine of this machine says of its containers the moment it happens: tasks that end without the swarm having
//! wanted it, or before it tells.

use std::collections::HashMap;

use crate::{
    client::Engine,
    containers::{self, SWARM_TASK},
};

/// A task of this machine that ends or is ill: it is to get nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// The full name of its service.
    pub service: String,
    /// The engine's id of it; of a container without a service the container's.
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

/// What an event says of requests, if it says anything: whose they are not to be any more.
pub(crate) async fn stopping(engine: &Engine, event: &ContainerEvent) -> Option<Stopping> {
    let stopping = event.task().or_else(|| containers::instance(event))?;
    ends(engine, event).await.then_some(stopping)
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
        let label = |name: &str| self.attributes.get(name).cloned();
        Some(Stopping { service: label("com.docker.swarm.service.name")?, task: label(SWARM_TASK)? })
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
