//! Who uses the store: writers and readers of a few hot keys, owners of leases, watchers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::history::{Call, History, Outcome, Promise};
use super::network::Network;
use super::sabotage::Sabotage;
use crate::{Error, Expect, Key, LeaseId, PutOptions, ReadLevel, Store};

const KEYS: u64 = 4;

/// What the clients of a host share.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) store: Store,
    pub(super) host: usize,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) network: Network,
    pub(super) sabotage: Option<Sabotage>,
}

impl Client {
    /// Starts all of them; they end with the host.
    pub(super) fn start(&self) {
        for _ in 0..3 {
            tokio::spawn(self.clone().use_keys());
        }
        tokio::spawn(self.clone().own_leases());
        tokio::spawn(self.clone().watch());
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.network.note(format_args!("client {}: {what}", self.host), &[]);
    }

    async fn use_keys(self) {
        loop {
            pause(2, 60).await;
            let key = key(&format!("key{}", fastrand::u64(..KEYS)));
            let call = match fastrand::u8(..10) {
                0..4 => Call::Get { key },
                4..9 => Call::Put { key, value: fastrand::u64(..).to_string().into() },
                _ => Call::Delete { key },
            };
            self.carry_out(call).await;
        }
    }

    async fn carry_out(&self, call: Call) {
        let operation = self.history().invoke(call.clone());
        let outcome = match &call {
            Call::Get { key } => self.get(key).await,
            Call::Put { key, value } => self.put(key, value).await,
            Call::Delete { key } => outcome(self.store.delete(key, None).await),
        };
        self.note(format_args!("{call:?} -> {outcome:?}"));
        self.history().finish(operation, outcome);
    }

    async fn get(&self, key: &Key) -> Outcome {
        let is_stale = self.sabotage == Some(Sabotage::StaleReads);
        let level = if is_stale { ReadLevel::Stale } else { ReadLevel::Linearizable };
        match self.store.get(key, level).await {
            Ok(entry) => Outcome::Read(entry.map(|entry| (entry.mod_revision, entry.value))),
            Err(_) => Outcome::Refused,
        }
    }

    async fn put(&self, key: &Key, value: &Bytes) -> Outcome {
        let mut options = PutOptions::default();
        if fastrand::u8(..3) == 0 {
            // Compared with what was read before, perhaps long ago.
            let Ok(before) = self.store.get(key, ReadLevel::Stale).await else { return Outcome::Refused };
            options.expect = Some(before.map_or(Expect::Absent, |entry| Expect::Revision(entry.mod_revision)));
        }
        outcome(self.store.put(key.clone(), value.clone(), options).await.map(Some))
    }

    async fn own_leases(self) {
        let mut number = 0;
        loop {
            pause(100, 1000).await;
            let ttl = Duration::from_millis(fastrand::u64(1000..3000));
            let asked = self.network.now();
            let Ok(lease) = self.store.lease_grant(ttl).await else { continue };
            let promise = Promise { ttl, renewed_ms: asked, given_up: false };
            self.history().leases.insert(lease, promise);
            self.note(format_args!("granted {lease} for {} ms", ttl.as_millis()));
            number += 1;
            let name = key(&format!("lease/{}/{lease}/{number}", self.host));
            let options = PutOptions { lease: Some(lease), expect: None };
            drop(self.store.put(name, Bytes::from_static(b"held"), options).await);
            self.keep_alive(lease, ttl).await;
        }
    }

    async fn keep_alive(&self, lease: LeaseId, ttl: Duration) {
        for _ in 0..fastrand::u8(..5) {
            tokio::time::sleep(ttl / 3).await;
            let asked = self.network.now();
            let kept = self.store.lease_keep_alive(lease).await;
            self.note(format_args!("kept alive {lease}: {kept:?}"));
            match kept {
                Ok(_) => {
                    if let Some(promise) = self.history().leases.get_mut(&lease) {
                        promise.renewed_ms = asked;
                    }
                }
                Err(_) => break,
            }
        }
        if fastrand::u8(..4) == 0 {
            if let Some(promise) = self.history().leases.get_mut(&lease) {
                promise.given_up = true;
            }
            drop(self.store.lease_revoke(lease).await);
        }
    }

    async fn watch(self) {
        loop {
            let mut watch = self.store.watch("");
            let number = self.history().begin_watch(self.host);
            for _ in 0..fastrand::u32(20..400) {
                let Ok(batch) = watch.next().await else { return };
                let is_lossy = self.sabotage == Some(Sabotage::LossyWatch) && !batch.reset;
                if is_lossy && fastrand::u8(..20) == 0 {
                    continue;
                }
                let now = self.network.now();
                self.history().watched(number, batch, now);
            }
        }
    }
}

fn outcome(result: Result<Option<crate::Revision>, Error>) -> Outcome {
    match result {
        Ok(revision) => Outcome::Written(revision),
        Err(Error::Conflict { current }) => Outcome::Conflict(current),
        Err(Error::OutcomeUnknown) => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}

fn key(text: &str) -> Key {
    Key::try_new(text).expect("keys of the simulation are valid")
}

async fn pause(from: u64, to: u64) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(from..to))).await;
}
