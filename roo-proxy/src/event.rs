//! What the proxy tells its owner.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::name::HostName;

/// Something that the proxy noticed and cannot settle itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A client asked in a handshake for a routed name that has no certificate.
    CertificateWanted {
        /// The name asked for; for a wildcard route the concrete name.
        name: HostName,
    },
    /// One of those who must send a PROXY header did not, and was closed.
    ProxyHeaderMissing {
        /// The peer.
        peer: IpAddr,
        /// What came instead.
        why: String,
    },
    /// A destination led to where nothing may be connected to.
    UpstreamForbidden {
        /// The route's origin, in its text form.
        origin: Arc<str>,
        /// The destination's URL.
        destination: Arc<str>,
        /// What it led to, as text.
        address: String,
        /// Why that is refused.
        why: &'static str,
    },
    /// A destination failed a request, whether or not another one could answer it.
    UpstreamFailed {
        /// The route's origin, in its text form.
        origin: Arc<str>,
        /// The destination's URL.
        destination: Arc<str>,
        /// The reason, as in `Roo-Error`.
        reason: &'static str,
    },
}

/// The receiving end. At most 1,024 events queue up; further ones are dropped, and the same event is
/// told at most once in five seconds.
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event, or `None` once the proxy is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The sending end, shared by the workers. Its lock is taken only when something went wrong, never by
/// a request that succeeds.
pub(crate) struct EventSender {
    sender: mpsc::Sender<Event>,
    told: Mutex<HashMap<Event, Instant>>,
}

const QUEUE_MAX: usize = 1_024;
const TOLD_MAX: usize = 4_096;
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(crate) fn channel() -> (EventSender, Events) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    (EventSender { sender, told: Mutex::default() }, Events(receiver))
}

impl EventSender {
    /// Queues the event unless the same one was queued a moment ago or the queue is full.
    pub(crate) fn tell(&self, event: Event) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&event).is_some_and(|at| now.duration_since(*at) < TELL_AGAIN_AFTER) {
            return;
        }
        if told.len() >= TOLD_MAX {
            told.retain(|_, at| now.duration_since(*at) < TELL_AGAIN_AFTER);
            if told.len() >= TOLD_MAX {
                return;
            }
        }
        if self.sender.try_send(event.clone()).is_ok() {
            told.insert(event, now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(name: &str) -> Event {
        Event::CertificateWanted { name: name.parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_told_once_in_a_while() {
        let (sender, mut events) = channel();
        sender.tell(wanted("a.example"));
        sender.tell(wanted("a.example"));
        sender.tell(wanted("b.example"));
        tokio::time::advance(TELL_AGAIN_AFTER).await;
        sender.tell(wanted("a.example"));
        drop(sender);
        let mut names = Vec::new();
        while let Some(event) = events.next().await {
            names.push(event);
        }
        assert_eq!(names, [wanted("a.example"), wanted("b.example"), wanted("a.example")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_bounded() {
        let (sender, mut events) = channel();
        for n in 0..2 * TOLD_MAX {
            sender.tell(wanted(&format!("n{n}.example")));
        }
        drop(sender);
        let mut count = 0;
        while events.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, QUEUE_MAX);
    }
}
