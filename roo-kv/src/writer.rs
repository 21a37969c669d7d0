//! Writes: numbering them, handing them to the leader, and gathering those of many callers into few log entries.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::command::{ENTRY_BYTES_TARGET, ENTRY_REQUESTS_MAX, Request, Requests};
use crate::peer::Proposed;
use crate::raft::Raft;

/// How far a node's newest write may be ahead of its oldest one without a reply: it bounds the replies kept.
const WINDOW: u64 = 8192;

/// Requests that wait to be put into an entry.
const QUEUE: usize = 4096;

/// Entries on their way at once.
const ENTRIES_IN_FLIGHT: usize = 32;

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

type Waiting = (Request, oneshot::Sender<Proposed>);

/// Gathers requests to log entries on the leader.
#[derive(Clone)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Waiting>,
}

impl Batcher {
    /// Starts its task, which ends when the last handle is dropped or Raft stops.
    pub(crate) fn start(raft: Raft, tracker: &TaskTracker) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        tracker.spawn(gather(raft, requests, tracker.clone()));
        Self { queue }
    }

    /// Has the request written, if this node leads.
    pub(crate) async fn propose(&self, request: Request) -> Proposed {
        let (sender, receiver) = oneshot::channel();
        if self.queue.send((request, sender)).await.is_err() {
            return Proposed::NotLeader;
        }
        receiver.await.unwrap_or(Proposed::Unknown)
    }
}

async fn gather(raft: Raft, mut requests: mpsc::Receiver<Waiting>, tracker: TaskTracker) {
    let places = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
    while let Some(first) = requests.recv().await {
        // While all places are taken, more requests gather for the next entry.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let mut bytes = first.0.command.weight();
        let mut batch = vec![first];
        while batch.len() < ENTRY_REQUESTS_MAX && bytes < ENTRY_BYTES_TARGET {
            let Ok(next) = requests.try_recv() else { break };
            bytes += next.0.command.weight();
            batch.push(next);
        }
        let raft = raft.clone();
        tracker.spawn(async move {
            write(&raft, batch).await;
            drop(place);
        });
    }
}

async fn write(raft: &Raft, batch: Vec<Waiting>) {
    let (requests, waiting): (Vec<Request>, Vec<_>) = batch.into_iter().unzip();
    let outcomes: Vec<Proposed> = match raft.client_write(Requests(requests)).await {
        Ok(written) => written.data.into_iter().map(Proposed::Done).collect(),
        // Refused before it came into the log.
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => vec![Proposed::NotLeader; waiting.len()],
        Err(error) => {
            tracing::debug!(%error, "a write's outcome is not known");
            vec![Proposed::Unknown; waiting.len()]
        }
    };
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
