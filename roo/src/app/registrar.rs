//! Registering instances: the one way by which every door puts them into the store, and takes them out.

use std::time::Duration;

use bytes::Bytes;
use roo_discovery::{Instance, InstanceId, ServiceName, State};
use roo_kv::{Entry, Error, Expect, Key, LeaseId, PutOptions, ReadLevel, Revision, Store};

use super::swarm;
use crate::keys;

/// Writes instances. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registrar {
    store: Store,
}

/// What a registration came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registered {
    /// When the record was last written.
    pub(crate) revision: Revision,
    /// Whether that was now. If not, the lease lives on and nothing was written.
    pub(crate) written: bool,
}

/// How often a write is tried that others get in the way of.
const ATTEMPTS_MAX: usize = 8;
/// How long the answer about an instance that leaves waits for nodes to have heard of it.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

impl Registrar {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes the record what `instance` says, and lets it live for another whole TTL from now. Writes only what has
    /// changed: a repeated registration is a keep-alive of its lease.
    ///
    /// Without a `state` it stays in the one that it is in, whoever put it there: `Up` if it is new. That `instance` has is
    /// not looked at. When an instance that stops is answered for, every reachable node has applied it.
    ///
    /// # Errors
    /// Those of the store; `Busy` if others write the same record all the time. If the future is dropped, the record may
    /// or may not be written, and a lease may be left behind that ends by itself.
    pub(crate) async fn register(&self, mut instance: Instance, state: Option<State>) -> Result<Registered, Error> {
        let key = keys::instance(&instance.service, &instance.id);
        for _ in 0..ATTEMPTS_MAX {
            let before = self.store.get(&key, ReadLevel::Linearizable).await?;
            let former = before.as_ref().and_then(|entry| Instance::parse(&entry.value).ok());
            instance.state = state.or(former.map(|former| former.state)).unwrap_or_default();
            match self.attempt(&key, &instance, before).await {
                Err(Error::Conflict { .. } | Error::LeaseNotFound { .. }) => {}
                Ok(registered) if registered.written && instance.state == State::Stopping => {
                    self.spread(registered.revision).await;
                    return Ok(registered);
                }
                done => return done,
            }
        }
        Err(Error::Busy)
    }

    /// Puts an instance into a state in which it stays until somebody says otherwise; `None` if it is not there. When one
    /// that stops is answered for, every reachable node has applied it.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub(crate) async fn mark(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        state: State,
    ) -> Result<Option<Registered>, Error> {
        let key = keys::instance(service, id);
        for _ in 0..ATTEMPTS_MAX {
            let Some(before) = self.store.get(&key, ReadLevel::Linearizable).await? else { return Ok(None) };
            let Ok(mut instance) = Instance::parse(&before.value) else { return Ok(None) };
            if instance.state == state {
                return Ok(Some(Registered { revision: before.mod_revision, written: false }));
            }
            instance.state = state;
            let options = PutOptions { expect: Some(Expect::Revision(before.mod_revision)), lease: before.lease };
            match self.store.put(key.clone(), Bytes::from(instance.to_json()), options).await {
                Err(Error::Conflict { .. } | Error::LeaseNotFound { .. }) => {}
                Err(error) => return Err(error),
                Ok(revision) => {
                    if state == State::Stopping {
                        self.spread(revision).await;
                    }
                    return Ok(Some(Registered { revision, written: true }));
                }
            }
        }
        Err(Error::Busy)
    }

    /// Takes an instance out and ends its lease; `None` if it was not there. When it is answered, every reachable node
    /// has applied it.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub(crate) async fn remove(&self, service: &ServiceName, id: &InstanceId) -> Result<Option<Revision>, Error> {
        let key = keys::instance(service, id);
        for _ in 0..ATTEMPTS_MAX {
            let Some(before) = self.store.get(&key, ReadLevel::Linearizable).await? else { return Ok(None) };
            match self.store.delete(&key, Some(Expect::Revision(before.mod_revision))).await {
                Ok(Some(revision)) => {
                    self.end(before.lease.filter(|_| !is_shared(&before))).await;
                    self.spread(revision).await;
                    return Ok(Some(revision));
                }
                Ok(None) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Busy)
    }

    async fn attempt(&self, key: &Key, instance: &Instance, before: Option<Entry>) -> Result<Registered, Error> {
        let value = Bytes::from(instance.to_json());
        let former = before.as_ref().filter(|entry| !is_shared(entry)).and_then(|entry| entry.lease);
        let lease = self.lease(instance.ttl, before.as_ref()).await?;
        if let Some(entry) = before.as_ref().filter(|entry| entry.value == value && lease == former) {
            return Ok(Registered { revision: entry.mod_revision, written: false });
        }
        let expect = Some(before.map_or(Expect::Absent, |entry| Expect::Revision(entry.mod_revision)));
        let put = self.store.put(key.clone(), value, PutOptions { expect, lease }).await;
        // Whichever lease has no record now is of no use. Of an unknown outcome nothing can be said: it ends by itself.
        let idle = match &put {
            Ok(_) => former,
            Err(Error::Conflict { .. }) => lease,
            Err(_) => None,
        };
        if former != lease {
            self.end(idle).await;
        }
        Ok(Registered { revision: put?, written: true })
    }

    /// The lease for a record with this TTL: the one that it has, kept alive, or a new one.
    async fn lease(&self, ttl: Option<Duration>, before: Option<&Entry>) -> Result<Option<LeaseId>, Error> {
        let Some(ttl) = ttl else { return Ok(None) };
        if let Some((lease, entry)) = before.and_then(|entry| Some((entry.lease?, entry)))
            && Instance::parse(&entry.value).is_ok_and(|instance| instance.ttl == Some(ttl))
        {
            match self.store.lease_keep_alive(lease).await {
                Ok(_) => return Ok(Some(lease)),
                Err(Error::LeaseNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.store.lease_grant(ttl).await.map(Some)
    }

    async fn end(&self, lease: Option<LeaseId>) {
        if let Some(id) = lease
            && let Err(error) = self.store.lease_revoke(id).await
        {
            tracing::debug!(%id, %error, "a lease that is of no use any more ends by itself");
        }
    }

    /// Waits until all reachable nodes know, so that whoever is answered may stop to listen.
    async fn spread(&self, revision: Revision) {
        let missing = self.store.wait_applied_everywhere(revision, LEAVE_PATIENCE).await;
        if missing > 0 {
            tracing::debug!(missing, "nodes have yet to hear that an instance has left");
        }
    }
}

/// Whether what an instance hangs on is what others hang on as well: one that the watch of the Swarm or of containers wrote.
fn is_shared(entry: &Entry) -> bool {
    let source = Instance::parse(&entry.value).map(|instance| instance.source.to_string());
    source.is_ok_and(|source| swarm::writes(&source))
}
