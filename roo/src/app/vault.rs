//! The issuer's vault over the replicated store: records are sealed, claims are leases, writes are fenced.

use std::time::Duration;

use bytes::Bytes;
use roo_acme::{Certificate, Claim, Facts, Item, VaultError};
use roo_kv::{Compare, Expect, Key, LeaseId, Op, ReadLevel, Revision, Sealer, Store, Test, Txn};

use crate::keys;

/// How long to wait for the nodes that are up to be able to answer a challenge.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Certificates, accounts and claims in the store.
pub(crate) struct Vault {
    store: Store,
    sealer: Sealer,
    /// Who we are, as it is written into locks.
    holder: String,
    /// This node issues from the internal CA, so there shall be one.
    internal: bool,
}

impl Vault {
    pub(crate) fn new(store: Store, sealer: Sealer, internal: bool) -> Self {
        let holder = store.status().node_id.to_string();
        Self { store, sealer, holder, internal }
    }

    /// The certificate sealed in `record`, stored under `name`.
    pub(super) fn open_certificate(&self, name: &str, record: &[u8]) -> Result<Certificate, String> {
        let key = keys::certificate(name);
        let plain = self.sealer.open(key.as_str(), record).map_err(|error| error.to_string())?;
        Certificate::decode(&plain).map_err(|error| error.to_string())
    }

    /// What may be shown of the certificate sealed in `record`, as JSON.
    pub(crate) fn facts_json(&self, name: &str, record: &[u8]) -> String {
        match self.open_certificate(name, record) {
            Ok(certificate) => facts_json(&certificate.facts()),
            Err(error) => serde_json::json!({ "error": error }).to_string(),
        }
    }

    /// The root of the internal CA, if there is one or shall be one.
    pub(crate) async fn internal_root(&self) -> Option<String> {
        if !self.internal {
            roo_acme::Vault::load(self, &Item::InternalCa).await.ok()??;
        }
        roo_acme::internal_root_pem(self).await.ok()
    }

    /// The node that holds the claim on `what`, as far as this node knows.
    pub(crate) async fn holder(&self, what: &str) -> Option<String> {
        let entry = self.store.get(&keys::lock(what), ReadLevel::Stale).await.ok()??;
        String::from_utf8(entry.value.to_vec()).ok()
    }

    /// What went wrong with `name` so far, as far as this node knows.
    pub(super) async fn attempts(&self, name: &str) -> Option<roo_acme::Attempts> {
        let key = keys::attempts(name);
        let entry = self.store.get(&key, ReadLevel::Stale).await.ok()??;
        let plain = self.sealer.open(key.as_str(), &entry.value).ok()?;
        roo_acme::Attempts::decode(&plain).ok()
    }

    /// Runs `op` if `claim` is still ours.
    pub(super) async fn fenced(&self, claim: &Claim, op: Op) -> Result<Revision, VaultError> {
        let held = Compare { key: keys::lock(&claim.what), test: Test::CreateRevision(Revision(claim.fence)) };
        let txn = Txn { compare: vec![held], success: vec![op], failure: Vec::new() };
        let outcome = self.store.txn(txn).await.map_err(VaultError::unavailable)?;
        if outcome.succeeded { Ok(outcome.revision) } else { Err(VaultError::ClaimLost { what: claim.what.clone() }) }
    }

    fn sealed(&self, item: &Item, plain: &[u8]) -> Result<(Key, Bytes), VaultError> {
        let key = key_of(item);
        let record = self.sealer.seal(key.as_str(), plain).map_err(|error| VaultError::unreadable(item, error))?;
        Ok((key, Bytes::from(record)))
    }
}

fn facts_json(facts: &Facts) -> String {
    serde_json::to_string(facts).unwrap_or_default()
}

fn key_of(item: &Item) -> Key {
    match item {
        Item::Account { directory } => keys::account(directory),
        Item::Order { name } => keys::order(name),
        Item::Certificate { name } => keys::certificate(name),
        Item::Attempts { name } => keys::attempts(name),
        Item::InternalCa => keys::internal_ca(),
    }
}

impl roo_acme::Vault for Vault {
    async fn load(&self, item: &Item) -> Result<Option<Vec<u8>>, VaultError> {
        let key = key_of(item);
        let entry = self.store.get(&key, ReadLevel::Linearizable).await.map_err(VaultError::unavailable)?;
        let open = |entry: roo_kv::Entry| self.sealer.open(key.as_str(), &entry.value);
        entry.map(open).transpose().map_err(|error| VaultError::unreadable(item, error))
    }

    async fn create(&self, item: &Item, bytes: Vec<u8>) -> Result<bool, VaultError> {
        let (key, value) = self.sealed(item, &bytes)?;
        let absent = Compare { key: key.clone(), test: Test::Expect(Expect::Absent) };
        let put = Op::Put { key, value, lease: None };
        let txn = Txn { compare: vec![absent], success: vec![put], failure: Vec::new() };
        Ok(self.store.txn(txn).await.map_err(VaultError::unavailable)?.succeeded)
    }

    async fn save(&self, item: &Item, bytes: Vec<u8>, claim: &Claim) -> Result<(), VaultError> {
        let (key, value) = self.sealed(item, &bytes)?;
        self.fenced(claim, Op::Put { key, value, lease: None }).await.map(drop)
    }

    async fn remove(&self, item: &Item, claim: &Claim) -> Result<(), VaultError> {
        self.fenced(claim, Op::Delete { key: key_of(item) }).await.map(drop)
    }

    async fn claim(&self, what: &str, ttl: Duration) -> Result<Option<Claim>, VaultError> {
        let key = keys::lock(what);
        // Looking first keeps those who wait from writing to the log.
        let held = self.store.get(&key, ReadLevel::Stale).await.map_err(VaultError::unavailable)?;
        if held.is_some() {
            return Ok(None);
        }
        let lease = self.store.lease_grant(ttl).await.map_err(VaultError::unavailable)?;
        let absent = Compare { key: key.clone(), test: Test::Expect(Expect::Absent) };
        let put = Op::Put { key, value: Bytes::from(self.holder.clone()), lease: Some(lease) };
        let txn = Txn { compare: vec![absent], success: vec![put], failure: Vec::new() };
        let outcome = self.store.txn(txn).await;
        if let Ok(outcome) = &outcome
            && outcome.succeeded
        {
            return Ok(Some(Claim { what: what.to_owned(), lease: lease.0, fence: outcome.revision.0 }));
        }
        // If this fails the lease ends by itself.
        let _ = self.store.lease_revoke(lease).await;
        outcome.map(|_| None).map_err(VaultError::unavailable)
    }

    async fn keep(&self, claim: &Claim) -> Result<(), VaultError> {
        match self.store.lease_keep_alive(LeaseId(claim.lease)).await {
            Ok(()) => Ok(()),
            Err(roo_kv::Error::LeaseNotFound { .. }) => Err(VaultError::ClaimLost { what: claim.what.clone() }),
            Err(error) => Err(VaultError::unavailable(error)),
        }
    }

    async fn release(&self, claim: Claim) -> Result<(), VaultError> {
        match self.store.lease_revoke(LeaseId(claim.lease)).await {
            Ok(()) | Err(roo_kv::Error::LeaseNotFound { .. }) => Ok(()),
            Err(error) => Err(VaultError::unavailable(error)),
        }
    }

    async fn publish_answer(&self, token: &str, key_authorization: &str, claim: &Claim) -> Result<(), VaultError> {
        let value = Bytes::from(key_authorization.to_owned());
        let put = Op::Put { key: keys::answer(token), value, lease: Some(LeaseId(claim.lease)) };
        let revision = self.fenced(claim, put).await?;
        let missing = self.store.wait_applied_everywhere(revision, PUBLISH_TIMEOUT).await;
        if missing > 0 {
            tracing::warn!(missing, "not every node can answer the challenge yet");
        }
        Ok(())
    }

    async fn retract_answer(&self, token: &str, claim: &Claim) -> Result<(), VaultError> {
        self.fenced(claim, Op::Delete { key: keys::answer(token) }).await.map(drop)
    }
}
