//! What one watcher is sent, in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use roo_kv::{Follow, Revision, SharedBatch, WatchError};
use tokio::sync::OwnedSemaphorePermit;

use super::super::Api;
use super::form::Form;

/// Events that are written at once: a large batch goes out in parts, so that a slow watcher holds no more than one.
const PART_EVENTS: usize = 500;

/// One thing to be sent.
#[derive(Debug)]
pub(super) enum Message {
    /// Some events of a batch.
    Events(Arc<SharedBatch>, Range<usize>),
    /// What was before the watch began has been sent; this is where the store was then.
    Synced(Revision),
    /// Nothing happened: everything up to here has been sent.
    Progress(Revision),
    /// What should come next is no longer kept. The last message.
    Compacted { oldest: Revision },
    /// The watcher was too slow and may come back from this revision. The last message.
    Behind { resume: Revision },
}

/// A watcher.
pub(super) struct Reader {
    api: Arc<Api>,
    follow: Follow,
    form: Form,
    /// Between progress marks while nothing happens.
    progress: Duration,
    due: VecDeque<Message>,
    synced: bool,
    ended: bool,
    /// Given back when the client leaves and the reader is dropped.
    _place: OwnedSemaphorePermit,
}

impl Reader {
    pub(super) fn new(
        api: Arc<Api>,
        follow: Follow,
        form: Form,
        progress: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { api, follow, form, progress, due: VecDeque::new(), synced: false, ended: false, _place: place }
    }

    /// What is to be sent next; `None`: no more. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if self.due.is_empty() && !self.ended {
            let stopping = self.api.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => self.ended = true,
                () = self.gather() => {}
            }
        }
        self.due.pop_front().map(|message| self.form.write(&self.api, &message))
    }

    /// A progress mark, for a client that asks for one.
    pub(super) fn mark(&self) -> Option<Bytes> {
        let revision = self.follow.caught_up().filter(|_| self.due.is_empty())?;
        Some(self.form.write(&self.api, &Message::Progress(revision)))
    }

    async fn gather(&mut self) {
        while self.due.is_empty() && !self.ended {
            match self.follow.ready().await {
                Ok(Some(batch)) => self.add(&batch),
                Ok(None) => match self.follow.caught_up() {
                    Some(revision) if !self.synced => {
                        self.synced = true;
                        self.due.push_back(Message::Synced(revision));
                    }
                    _ => self.wait().await,
                },
                Err(error) => {
                    self.ended = true;
                    self.due.extend(match error {
                        WatchError::Compacted { oldest } => Some(Message::Compacted { oldest }),
                        WatchError::Behind { resume } => Some(Message::Behind { resume }),
                        _ => None,
                    });
                }
            }
        }
    }

    async fn wait(&mut self) {
        if tokio::time::timeout(self.progress, self.follow.changed()).await.is_err() {
            self.due.extend(self.follow.caught_up().map(Message::Progress));
        }
    }

    fn add(&mut self, batch: &Arc<SharedBatch>) {
        let count = batch.events.len();
        let parts = (0..count).step_by(PART_EVENTS).map(|start| start..count.min(start + PART_EVENTS));
        self.due.extend(parts.map(|part| Message::Events(Arc::clone(batch), part)));
        if batch.reset {
            self.synced = true;
            self.due.push_back(Message::Synced(batch.revision));
        }
    }
}
