//! The state machine as openraft drives it.

use std::io;
use std::sync::Arc;

use futures_util::{FutureExt, Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::form::{LogIdForm, StoredMembershipForm};
use super::{LogEntry, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::command::Replies;
use crate::snapshot::{Shelf, SnapshotFile, SnapshotHeader};
use crate::state::{self, META_KEY, Meta, Overlay};
use crate::view::View;

/// Most entries in one batch of the engine.
const BATCH_ENTRIES_MAX: usize = 256;

/// Keys and values of the engine.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

type Work = (LogEntry, Option<ApplyResponder<Types>>);

/// Applies the log to the view and takes snapshots of it.
pub(crate) struct Machine {
    view: Arc<View>,
    shelf: Arc<Shelf>,
    meta: Meta,
}

impl Machine {
    pub(crate) fn new(view: Arc<View>, shelf: Arc<Shelf>, meta: Meta) -> Self {
        Self { view, shelf, meta }
    }

    async fn apply_batch(&mut self, batch: Vec<Work>) -> io::Result<()> {
        let view = Arc::clone(&self.view);
        let mut meta = self.meta.clone();
        let (entries, responders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let (meta, replies) = blocking(move || {
            let replies = apply_entries(&view, &mut meta, entries)?;
            Ok((meta, replies))
        })
        .await?;
        self.meta = meta;
        for (responder, replies) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }
}

fn apply_entries(view: &View, meta: &mut Meta, entries: Vec<LogEntry>) -> io::Result<Vec<Replies>> {
    let mut all_replies = Vec::with_capacity(entries.len());
    // Only this machine writes, one batch after the other, so what is read here cannot change before the commit.
    let (changes, events) = view.read(|engine, _| {
        let mut overlay = Overlay::new(engine);
        let mut events = Vec::new();
        for entry in entries {
            let log_id = LogIdForm::from(&entry.log_id);
            debug_assert!(meta.applied.is_none_or(|applied| applied.index < log_id.index), "entries come in order");
            let mut replies = Replies::new();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(requests) => {
                    let applied = state::apply(&mut overlay, meta, log_id.index, &requests)?;
                    replies = applied.replies;
                    events.extend(applied.events);
                }
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(entry.log_id), membership);
                    meta.membership = StoredMembershipForm::from(&stored);
                }
            }
            meta.applied = Some(log_id);
            all_replies.push(replies);
        }
        io::Result::Ok((overlay.into_changes(), events))
    })?;
    view.commit(changes, meta, events)?;
    Ok(all_replies)
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let membership = self.meta.membership.clone().try_into().map_err(io::Error::other)?;
        Ok((self.meta.applied.map(LogId::from), membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        // It is asked again after its end, when the last batch was applied.
        let mut entries = entries.fuse();
        let mut batch: Vec<Work> = Vec::new();
        loop {
            // What is ready goes into one batch; nobody waits for a batch to fill.
            let ready = if batch.is_empty() { entries.next().await } else { entries.next().now_or_never().flatten() };
            match ready {
                Some(work) => batch.push(work?),
                None if batch.is_empty() => return Ok(()),
                None => self.apply_batch(std::mem::take(&mut batch)).await?,
            }
            if batch.len() >= BATCH_ENTRIES_MAX {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Nothing is applied before this returns, so the copy is of one moment.
        let view = Arc::clone(&self.view);
        let records = blocking(move || {
            let mut records = Vec::new();
            view.read(|engine, _| {
                engine.visit(&[], &mut |key, value| {
                    if key != META_KEY {
                        records.push((key.to_vec(), value.to_vec()));
                    }
                    true
                })
            })?;
            Ok(records)
        })
        .await;
        Builder { shelf: Arc::clone(&self.shelf), meta: self.meta.clone(), records: Some(records) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let view = Arc::clone(&self.view);
        let shelf = Arc::clone(&self.shelf);
        let expected = meta.last_log_id.as_ref().map(LogIdForm::from);
        self.meta = blocking(move || {
            let header = snapshot.verify()?;
            if header.meta.applied != expected {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not the one announced"));
            }
            // Durable before the state is touched: it is what the state is rebuilt from if this is cut short.
            let file = shelf.put(&snapshot.path, &header)?;
            view.replace(&header.meta, |put| file.read(put).map(drop))?;
            Ok(header.meta)
        })
        .await?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.shelf.newest().map(|(header, file)| announced(&header, file)).transpose()
    }
}

/// Writes a snapshot while applying goes on.
pub(crate) struct Builder {
    shelf: Arc<Shelf>,
    meta: Meta,
    records: Option<io::Result<Records>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let records = self.records.take().ok_or_else(|| io::Error::other("this snapshot was built already"))??;
        let header = SnapshotHeader { meta: self.meta.clone() };
        let shelf = Arc::clone(&self.shelf);
        blocking(move || {
            let file = shelf.write(&header, records)?;
            announced(&header, file)
        })
        .await
    }
}

/// A snapshot as openraft wants to hear of it.
pub(crate) fn announced(header: &SnapshotHeader, file: SnapshotFile) -> io::Result<Snapshot> {
    let last_membership = header.meta.membership.clone().try_into().map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id: header.meta.applied.map(LogId::from), last_membership };
    Ok(Snapshot { meta, snapshot: file })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
