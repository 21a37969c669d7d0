//! Moving a running cluster from one secret to the next.
//!
//! The record at `com.roo.secret` says how far the change is, and every node follows it:
//!
//! | phase | what each node does | next, once all members have confirmed |
//! |---|---|---|
//! | `announced` | keeps the new secret on its disk and accepts it beside the old one | `changing` |
//! | `changing` | shows and seals with the new one, and still accepts the old one | what is sealed is sealed anew; `overlap` |
//! | `overlap` | the same, until a person ends it | `finishing`, when asked |
//! | `finishing` | the same; what is sealed is looked through once more | `done` |
//! | `done` | accepts the new one alone | |
//!
//! No node moves on before every member has caught up with it, so that any two understand each other at any time. The
//! leader takes the steps of the record, each by comparing revisions: if it dies, the next one goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use roo_kv::{
    Batch, Entry, Event, Expect, Keyring, NodeId, PutOptions, ReadLevel, Revision, Role, Secret, SecretError, Status,
    Store,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Vault;
use crate::keys;

/// The form of the record.
const VERSION: u8 = 1;
/// How often is looked whether the next step can be taken, while a change is under way.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A write that was sealed before its node changed over is in the store after this time, or never will be.
const SETTLE: Duration = Duration::from_secs(6);

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Announced,
    Changing,
    Overlap,
    Finishing,
    Done,
}

/// What is stored. New fields need a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    version: u8,
    phase: Phase,
    from: String,
    to: String,
    /// The new secret, sealed with the old one; gone at the end.
    next: Option<String>,
    /// Members that can't be reached are not waited for.
    force: bool,
}

/// Why a change can't begin or end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    #[error("the new secret is not sealed with the cluster's present one: {0}")]
    Sealed(String),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the new secret is the present one")]
    Same,
    #[error("the cluster is on its way to another secret already")]
    UnderWay,
    #[error("there is no change of the secret to be finished")]
    None,
    #[error("these members can't be reached: {}", .0.join(", "))]
    Unreachable(Vec<String>),
    #[error(transparent)]
    Store(#[from] roo_kv::Error),
}

/// How far a change is, for people.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The secret that this node goes by.
    current: String,
    phase: Option<Phase>,
    from: Option<String>,
    to: Option<String>,
    /// Members that have not confirmed the phase yet.
    waiting_for: Vec<String>,
}

/// What is in the store about a change.
#[derive(Debug, Default, Clone)]
struct Seen {
    record: Option<(Record, Revision)>,
    /// What each node has confirmed: the secret's id and the phase.
    confirmed: BTreeMap<String, String>,
}

impl Seen {
    fn take(&mut self, batch: Batch) {
        if batch.reset {
            *self = Self::default();
        }
        for event in batch.events {
            let key = event.key().as_str();
            match (key.strip_prefix(keys::SECRET_NODE_PREFIX), &event) {
                (Some(node), Event::Put { entry, .. }) => {
                    self.confirmed.insert(node.to_owned(), String::from_utf8_lossy(&entry.value).into_owned());
                }
                (Some(node), Event::Delete { .. }) => drop(self.confirmed.remove(node)),
                (None, Event::Put { entry, .. }) => self.record = record(entry),
                (None, Event::Delete { .. }) => self.record = None,
            }
        }
    }

    /// Members that still have to confirm the phase.
    fn waiting_for(&self, status: &Status) -> Vec<NodeId> {
        let Some((record, _)) = &self.record else { return Vec::new() };
        let Some(due) = confirmation(record) else { return Vec::new() };
        let members = status.members.iter().filter(|member| member.reachable || !record.force);
        let late = members.filter(|member| self.confirmed.get(&member.id.to_string()) != Some(&due));
        late.map(|member| member.id).collect()
    }
}

fn record(entry: &Entry) -> Option<(Record, Revision)> {
    match serde_json::from_slice::<Record>(&entry.value) {
        Ok(record) if record.version == VERSION => Some((record, entry.mod_revision)),
        Ok(record) => {
            tracing::error!(version = record.version, "the change of the secret is of a newer version of Roo");
            None
        }
        Err(error) => {
            tracing::error!(%error, "the record of the secret's change can't be read");
            None
        }
    }
}

/// What a node writes once it has done what the phase asks for.
fn confirmation(record: &Record) -> Option<String> {
    match record.phase {
        Phase::Announced => Some(format!("{} announced", record.to)),
        Phase::Changing => Some(format!("{} changing", record.to)),
        Phase::Overlap | Phase::Finishing | Phase::Done => None,
    }
}

/// Follows and drives changes of the secret.
#[derive(Clone)]
pub(crate) struct Rotation {
    store: Store,
    keyring: Arc<Keyring>,
    vault: Arc<Vault>,
}

impl Rotation {
    /// Follows until the store ends or `stop`.
    pub(super) fn follow(store: &Store, vault: Arc<Vault>, stop: CancellationToken) -> Self {
        let rotation = Self { store: store.clone(), keyring: Arc::clone(store.keyring()), vault };
        let following = rotation.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = following.run() => {}
                () = stop.cancelled() => {}
            }
        });
        rotation
    }

    async fn run(&self) {
        let mut changes = self.store.watch(keys::SECRET);
        let mut seen = Seen::default();
        loop {
            let under_way = seen.record.as_ref().is_some_and(|(record, _)| record.phase != Phase::Done);
            tokio::select! {
                batch = changes.next() => match batch {
                    Ok(batch) => seen.take(batch),
                    Err(_) => return,
                },
                () = tokio::time::sleep(LOOK_EVERY), if under_way => {}
            }
            let Some((record, _)) = &seen.record else { continue };
            if let Err(error) = self.catch_up(record, &seen).await {
                tracing::error!(
                    error,
                    to = record.to,
                    "this node can't follow the change of the secret; it tries again"
                );
                continue;
            }
            if self.store.status().role == Role::Leader
                && let Err(error) = self.advance(&seen).await
            {
                tracing::debug!(%error, "the change of the secret has to wait");
            }
        }
    }

    /// Does what the phase asks of this node, and confirms it.
    async fn catch_up(&self, record: &Record, seen: &Seen) -> Result<(), String> {
        let to = record.to.parse().map_err(|_| "the record names no secret".to_owned())?;
        let next = match &record.next {
            Some(sealed) if !self.keyring.secrets().accept(to) => Some(self.open(sealed).map_err(|e| e.to_string())?),
            _ => None,
        };
        let (keyring, phase) = (Arc::clone(&self.keyring), record.phase);
        let steps = move || {
            if let Some(next) = &next {
                keyring.accept(next)?;
            }
            if phase != Phase::Announced {
                keyring.change_to(to)?;
            }
            if phase == Phase::Done {
                keyring.drop_others(to)?;
            }
            std::io::Result::Ok(())
        };
        let taken = tokio::task::spawn_blocking(steps).await.map_err(|error| error.to_string())?;
        taken.map_err(|error| error.to_string())?;
        let node = self.store.status().node_id;
        if let Some(due) = confirmation(record)
            && seen.confirmed.get(&node.to_string()) != Some(&due)
        {
            let put = self.store.put(keys::secret_of_node(node), Bytes::from(due), PutOptions::default());
            put.await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes the next step of the record, if it is time for it.
    async fn advance(&self, seen: &Seen) -> Result<(), roo_kv::Error> {
        let Some((record, revision)) = &seen.record else { return Ok(()) };
        if !seen.waiting_for(&self.store.status()).is_empty() {
            return Ok(());
        }
        let next = match record.phase {
            Phase::Announced => Phase::Changing,
            Phase::Changing => {
                self.vault.seal_anew().await?;
                Phase::Overlap
            }
            Phase::Finishing => {
                tokio::time::sleep(SETTLE).await;
                self.vault.seal_anew().await?;
                for node in seen.confirmed.keys() {
                    self.store.delete(&keys::secret_of(node), None).await?;
                }
                Phase::Done
            }
            Phase::Overlap | Phase::Done => return Ok(()),
        };
        let sealed = record.next.clone().filter(|_| next != Phase::Done);
        let record = Record { phase: next, next: sealed, ..record.clone() };
        match self.put(&record, Expect::Revision(*revision)).await {
            Ok(()) => tracing::info!(phase = ?next, to = record.to, "the change of the cluster's secret goes on"),
            // Another leader was faster.
            Err(roo_kv::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn put(&self, record: &Record, expect: Expect) -> Result<(), roo_kv::Error> {
        let value = Bytes::from(serde_json::json!(record).to_string());
        let options = PutOptions { expect: Some(expect), ..PutOptions::default() };
        self.store.put(keys::secret(), value, options).await.map(drop)
    }

    fn open(&self, sealed: &str) -> Result<Secret, RotationError> {
        let bytes = STANDARD.decode(sealed).map_err(|error| RotationError::Sealed(error.to_string()))?;
        let opened = self.keyring.secrets().sealer().open(keys::SECRET, &bytes);
        let text = opened.map_err(|error| RotationError::Sealed(error.to_string()))?;
        Ok(Secret::from_text(&String::from_utf8_lossy(&text))?)
    }

    async fn stored(&self) -> Result<Option<(Record, Revision)>, roo_kv::Error> {
        Ok(self.store.get(&keys::secret(), ReadLevel::Linearizable).await?.as_ref().and_then(record))
    }

    /// Begins a change to the secret that is sealed with the present one under the name of the record.
    pub(crate) async fn begin(&self, sealed: &str, force: bool) -> Result<(), RotationError> {
        let next = self.open(sealed)?;
        let current = self.keyring.secrets().current().id();
        if next.id() == current {
            return Err(RotationError::Same);
        }
        let expect = match self.stored().await? {
            Some((record, _)) if record.phase != Phase::Done => return Err(RotationError::UnderWay),
            Some((_, revision)) => Expect::Revision(revision),
            None => Expect::Absent,
        };
        let away = self.store.status().members.iter().filter(|m| !m.reachable).map(|m| m.id.to_string()).collect();
        match away {
            away if Vec::is_empty(&away) || force => {}
            away => return Err(RotationError::Unreachable(away)),
        }
        let record = Record {
            version: VERSION,
            phase: Phase::Announced,
            from: current.to_string(),
            to: next.id().to_string(),
            next: Some(sealed.to_owned()),
            force,
        };
        match self.put(&record, expect).await {
            Err(roo_kv::Error::Conflict { .. }) => Err(RotationError::UnderWay),
            put => Ok(put?),
        }
    }

    /// Ends the overlap: the former secret will not be accepted any more.
    pub(crate) async fn finish(&self) -> Result<(), RotationError> {
        match self.stored().await? {
            Some((record, revision)) if record.phase == Phase::Overlap => {
                let record = Record { phase: Phase::Finishing, ..record };
                Ok(self.put(&record, Expect::Revision(revision)).await?)
            }
            Some((record, _)) if record.phase == Phase::Finishing => Ok(()),
            Some((record, _)) if record.phase != Phase::Done => Err(RotationError::UnderWay),
            _ => Err(RotationError::None),
        }
    }

    /// How far it is.
    pub(crate) async fn report(&self) -> Result<Report, RotationError> {
        let mut seen = Seen { record: self.stored().await?, confirmed: BTreeMap::new() };
        let page = self.store.scan(roo_kv::Scan::prefix(keys::SECRET_NODE_PREFIX), ReadLevel::Stale).await?;
        for (key, entry) in page.entries {
            let node = key.as_str().strip_prefix(keys::SECRET_NODE_PREFIX).unwrap_or_default().to_owned();
            seen.confirmed.insert(node, String::from_utf8_lossy(&entry.value).into_owned());
        }
        let waiting_for = seen.waiting_for(&self.store.status()).iter().map(NodeId::to_string).collect();
        let record = seen.record.map(|(record, _)| record);
        Ok(Report {
            current: self.keyring.secrets().current().id().to_string(),
            phase: record.as_ref().map(|record| record.phase),
            from: record.as_ref().map(|record| record.from.clone()),
            to: record.map(|record| record.to),
            waiting_for,
        })
    }
}
