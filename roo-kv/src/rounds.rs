//! One question for all who wait for the same answer.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

/// Who waits to be taken into a round.
const QUEUE: usize = 4096;

/// Where to ask. All who ask while a round is under way are served by the next one together.
pub(crate) struct Rounds<T> {
    queue: mpsc::Sender<oneshot::Sender<T>>,
}

/// Those who wait for a round to begin.
pub(crate) type Waiting<T> = mpsc::Receiver<oneshot::Sender<T>>;

impl<T> Rounds<T> {
    /// Where to ask, and what [`serve`] takes.
    pub(crate) fn new() -> (Self, Waiting<T>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue }, waiting)
    }

    /// The answer of a round that began after this was called; `None` if no more rounds are held.
    pub(crate) async fn answer(&self) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.queue.send(sender).await.ok()?;
        receiver.await.ok()
    }
}

/// Holds round after round, each for all who wait when it begins. Ends when nobody can ask any more.
pub(crate) async fn serve<T: Clone, F: Future<Output = T>>(mut waiting: Waiting<T>, round: impl Fn() -> F) {
    while let Some(first) = waiting.recv().await {
        let mut served = vec![first];
        while let Ok(next) = waiting.try_recv() {
            served.push(next);
        }
        served.retain(|asker| !asker.is_closed());
        if served.is_empty() {
            continue;
        }
        let answer = round().await;
        for asker in served {
            // Who no longer waits needs no answer.
            drop(asker.send(answer.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_round_serves_all_who_asked_before_it_began_and_nobody_else() {
        const ASKERS: u64 = 500;
        let begun = Arc::new(AtomicU64::new(0));
        let (rounds, waiting) = Rounds::new();
        let rounds = Arc::new(rounds);
        let counter = Arc::clone(&begun);
        let serving = tokio::spawn(serve(waiting, move || {
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                tokio::task::yield_now().await;
                number
            }
        }));
        let asking = (0..ASKERS).map(|n| {
            let (rounds, begun) = (Arc::clone(&rounds), Arc::clone(&begun));
            tokio::spawn(async move {
                for _ in 0..n % 5 {
                    tokio::task::yield_now().await;
                }
                let before = begun.load(Ordering::SeqCst);
                assert!(rounds.answer().await.unwrap() > before, "a round that had begun served a later asker");
            })
        });
        for asker in asking.collect::<Vec<_>>() {
            asker.await.unwrap();
        }
        assert!(begun.load(Ordering::SeqCst) <= ASKERS / 10, "{begun:?} rounds");
        drop(rounds);
        serving.await.unwrap();
    }
}
