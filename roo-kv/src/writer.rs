//! Writes: numbering them, and gathering those of many callers into few messages to the leader and few log entries.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::command::{ENTRY_BYTES_TARGET, ENTRY_REQUESTS_MAX, Request, Requests};
use crate::id::NodeId;
use crate::node::{ATTEMPT_PATIENCE, leader_of};
use crate::peer::{Answer, Ask, LinkError, Links, Proposed};
use crate::raft::Raft;

/// How far a node's newest write may be ahead of its oldest one without a reply: it bounds the replies kept.
const WINDOW: u64 = 8192;

/// Requests that wait to be put into an entry.
const QUEUE: usize = 4096;

/// Numbers the writes of this run of the node.
pub(crate) struct Sequencer {
    pub(crate) origin: u64,
    numbers: Mutex<Numbers>,
    settled: Notify,
}

#[derive(Default)]
struct Numbers {
    next: u64,
    open: BTreeSet<u64>,
}

impl Numbers {
    fn settled_below(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

impl Sequencer {
    /// For a run that is named by a random number.
    pub(crate) fn new(origin: u64) -> Self {
        Self { origin, numbers: Mutex::default(), settled: Notify::new() }
    }

    /// The next number; waits while too old ones are open.
    pub(crate) async fn open(&self) -> Ticket<'_> {
        loop {
            let settled = self.settled.notified();
            if let Some(sequence) = self.try_open() {
                return Ticket { sequencer: self, sequence };
            }
            settled.await;
        }
    }

    fn try_open(&self) -> Option<u64> {
        let mut numbers = self.lock();
        let sequence = numbers.next;
        if sequence - numbers.settled_below() >= WINDOW {
            return None;
        }
        numbers.next += 1;
        numbers.open.insert(sequence);
        Some(sequence)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number in use; dropping it says that the write will not be repeated.
pub(crate) struct Ticket<'a> {
    sequencer: &'a Sequencer,
    pub(crate) sequence: u64,
}

impl Ticket<'_> {
    /// Below this, everything of this run is settled.
    pub(crate) fn settled_below(&self) -> u64 {
        self.sequencer.lock().settled_below()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.sequencer.lock().open.remove(&self.sequence);
        self.sequencer.settled.notify_waiters();
    }
}

/// Where gathered requests go.
pub(crate) trait Sink: Send + Sync + 'static {
    /// How many gatherings may be on their way at once. While all are, more requests gather for the next one, so a
    /// small number makes large gatherings under load, and no request waits when there is none.
    const IN_FLIGHT: usize;

    /// Has the requests written, in order; says of each what became of it.
    fn write(&self, requests: Vec<Request>) -> impl Future<Output = Vec<Proposed>> + Send;
}

/// The log, if this node leads: a gathering becomes one entry.
pub(crate) struct LogSink {
    pub(crate) raft: Raft,
}

impl Sink for LogSink {
    const IN_FLIGHT: usize = 2;

    async fn write(&self, requests: Vec<Request>) -> Vec<Proposed> {
        let count = requests.len();
        match self.raft.client_write(Requests(requests.into())).await {
            Ok(written) => written.data.into_iter().map(Proposed::Done).collect(),
            // Refused before it came into the log.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => vec![Proposed::NotLeader; count],
            Err(error) => {
                tracing::debug!(%error, "a write's outcome is not known");
                vec![Proposed::Unknown; count]
            }
        }
    }
}

/// Another node that leads: a gathering becomes one question.
pub(crate) struct LeaderSink {
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) own: NodeId,
}

impl Sink for LeaderSink {
    const IN_FLIGHT: usize = 2;

    async fn write(&self, requests: Vec<Request>) -> Vec<Proposed> {
        let count = requests.len();
        let Some((leader, address)) = leader_of(&self.raft).filter(|(leader, _)| *leader != self.own) else {
            return vec![Proposed::NotLeader; count];
        };
        match self.links.ask(leader, address.as_deref(), Ask::Propose(requests), ATTEMPT_PATIENCE).await {
            Ok(Answer::Propose(proposed)) if proposed.len() == count => proposed,
            Err(LinkError::Unreachable { .. } | LinkError::Refused(_)) => vec![Proposed::NotLeader; count],
            Ok(_) | Err(LinkError::Lost(_) | LinkError::Timeout(_)) => vec![Proposed::Unknown; count],
        }
    }
}

type Waiting = (Request, oneshot::Sender<Proposed>);

/// Gathers the requests of many callers.
#[derive(Clone)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Waiting>,
}

impl Batcher {
    /// Starts its task, which ends when the last handle is dropped, or with `stop`: whoever waits then is told that the
    /// outcome is not known.
    pub(crate) fn start(sink: impl Sink, tracker: &TaskTracker, stop: &CancellationToken) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let gathering = gather(Arc::new(sink), requests, tracker.clone());
        tracker.spawn(stop.clone().run_until_cancelled_owned(gathering));
        Self { queue }
    }

    /// Has the request written.
    pub(crate) async fn propose(&self, request: Request) -> Proposed {
        let (sender, receiver) = oneshot::channel();
        if self.queue.send((request, sender)).await.is_err() {
            return Proposed::NotLeader;
        }
        receiver.await.unwrap_or(Proposed::Unknown)
    }
}

async fn gather<S: Sink>(sink: Arc<S>, mut requests: mpsc::Receiver<Waiting>, tracker: TaskTracker) {
    let places = Arc::new(Semaphore::new(S::IN_FLIGHT));
    while let Some(first) = requests.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let mut bytes = first.0.command.weight();
        let mut batch = vec![first];
        while batch.len() < ENTRY_REQUESTS_MAX && bytes < ENTRY_BYTES_TARGET {
            let Ok(next) = requests.try_recv() else { break };
            bytes += next.0.command.weight();
            batch.push(next);
        }
        let sink = Arc::clone(&sink);
        tracker.spawn(async move {
            write(&*sink, batch).await;
            drop(place);
        });
    }
}

async fn write(sink: &impl Sink, batch: Vec<Waiting>) {
    let (requests, waiting): (Vec<Request>, Vec<_>) = batch.into_iter().unzip();
    let outcomes = sink.write(requests).await;
    debug_assert_eq!(outcomes.len(), waiting.len(), "each request has its reply");
    for (sender, outcome) in waiting.into_iter().zip(outcomes) {
        // Who no longer waits will not ask again.
        drop(sender.send(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_settle_in_order_and_the_window_is_bounded() {
        let sequencer = Sequencer::new(1);
        let first = sequencer.open().await;
        let second = sequencer.open().await;
        drop(second);
        assert_eq!(first.settled_below(), 0);
        for _ in 2..WINDOW {
            drop(sequencer.open().await);
        }
        assert_eq!(sequencer.try_open(), None);
        drop(first);
        assert_eq!(sequencer.open().await.settled_below(), WINDOW);
    }
}
