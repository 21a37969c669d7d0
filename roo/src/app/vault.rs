//! The issuer's vault over the replicated store: records are sealed, claims are leases, writes are fenced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roo_acme::{Answer, CaFacts, Certificate, Claim, Facts, Item, VaultError, Version};
use roo_kv::{
    Compare, Entry, Expect, Key, Keyring, LeaseId, Op, PutOptions, ReadLevel, Revision, Scan, SealError, Sealer, Store,
    Test, Txn,
};

use super::lock::{Fenced, Lock, Locks};
use crate::keys;

/// How long to wait for the nodes that are up to be able to answer a challenge.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Certificates, accounts and claims in the store.
pub(crate) struct Vault {
    store: Store,
    keyring: Arc<Keyring>,
    /// Opens what was sealed before a person gave the secret.
    former: Option<Sealer>,
    locks: Locks,
    /// This node issues from the internal CA, so there shall be one.
    internal: bool,
}

impl Vault {
    pub(crate) fn new(store: Store, former: Option<Sealer>, internal: bool) -> Self {
        let locks = Locks::new(store.clone());
        let keyring = Arc::clone(store.keyring());
        Self { store, keyring, former, locks, internal }
    }

    /// What seals values.
    pub(crate) fn sealer(&self) -> Sealer {
        self.keyring.secrets().sealer().clone()
    }

    /// The certificate sealed in `record`, stored under `name`.
    pub(super) fn open_certificate(&self, name: &str, record: &[u8]) -> Result<Certificate, String> {
        let key = keys::certificate(name);
        let plain = self.open(&key, record).map_err(|error| error.to_string())?;
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

    /// What may be shown of the internal CA, if there is one.
    pub(crate) async fn internal_facts(&self) -> Option<CaFacts> {
        roo_acme::internal_ca_facts(self).await.ok()?
    }

    /// The node that issues, as far as this node knows.
    pub(crate) async fn issuer(&self) -> Option<String> {
        self.locks.holder(roo_acme::CLAIM).await
    }

    /// The certificate stored under `name`, as far as this node knows, if it can be opened.
    pub(crate) async fn certificate(&self, name: &str) -> Option<Certificate> {
        let entry = self.store.get(&keys::certificate(name), ReadLevel::Stale).await.ok()??;
        self.open_certificate(name, &entry.value).ok()
    }

    /// What went wrong with `name` so far, as far as this node knows.
    pub(super) async fn attempts(&self, name: &str) -> Option<roo_acme::Attempts> {
        let key = keys::attempts(name);
        let entry = self.store.get(&key, ReadLevel::Stale).await.ok()??;
        let plain = self.open(&key, &entry.value).ok()?;
        roo_acme::Attempts::decode(&plain).ok()
    }

    /// What the CA advised on renewing the certificate of `name`, as far as this node knows.
    pub(super) async fn renewal(&self, name: &str) -> Option<roo_acme::Renewal> {
        let key = key_of(&roo_acme::Item::Renewal { name: name.to_owned() });
        let entry = self.store.get(&key, ReadLevel::Stale).await.ok()??;
        let plain = self.open(&key, &entry.value).ok()?;
        roo_acme::Renewal::decode(&plain).ok()
    }

    /// What was found when `name` was looked at last, as far as this node knows.
    pub(super) async fn probe(&self, name: &str) -> Option<roo_acme::Probe> {
        let key = keys::probe(name);
        let entry = self.store.get(&key, ReadLevel::Stale).await.ok()??;
        let plain = self.open(&key, &entry.value).ok()?;
        roo_acme::Probe::decode(&plain).ok()
    }

    async fn fenced(&self, claim: &Claim, op: Op) -> Result<Revision, VaultError> {
        match self.locks.write(&lock_of(claim), None, vec![op]).await.map_err(VaultError::unavailable)? {
            Fenced::Written(revision) => Ok(revision),
            Fenced::Lost | Fenced::Otherwise => Err(VaultError::ClaimLost { what: claim.what.clone() }),
        }
    }

    /// Seals what is stored under `key`.
    pub(super) fn seal(&self, key: &Key, plain: &[u8]) -> Result<Bytes, SealError> {
        self.keyring.secrets().sealer().seal(key.as_str(), plain).map(Bytes::from)
    }

    /// Opens what was sealed for `key`.
    pub(super) fn open(&self, key: &Key, record: &[u8]) -> Result<Vec<u8>, SealError> {
        match (self.keyring.secrets().sealer().open(key.as_str(), record), &self.former) {
            (Err(SealError::OtherKey), Some(former)) => former.open(key.as_str(), record),
            (outcome, _) => outcome,
        }
    }

    /// Seals anew what was not sealed with the present secret, so that every node that knows it can open it.
    pub(super) async fn seal_anew(&self) -> Result<(), roo_kv::Error> {
        for prefix in keys::SEALED_PREFIXES {
            let mut scan = Scan::prefix(*prefix);
            loop {
                let page = self.store.scan(scan.clone(), ReadLevel::Linearizable).await?;
                scan.after = page.entries.last().map(|(key, _)| key.clone());
                for (key, entry) in page.entries {
                    self.seal_entry_anew(key, entry).await?;
                }
                if !page.more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn seal_entry_anew(&self, key: Key, entry: Entry) -> Result<(), roo_kv::Error> {
        if self.keyring.secrets().sealer().sealed(&entry.value) {
            return Ok(());
        }
        let record = match self.open(&key, &entry.value).and_then(|plain| self.seal(&key, &plain)) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%key, %error, "what is stored here can't be sealed anew");
                return Ok(());
            }
        };
        let options = PutOptions { expect: Some(Expect::Revision(entry.mod_revision)), lease: entry.lease };
        match self.store.put(key.clone(), record, options).await {
            Ok(_) => tracing::info!(%key, "sealed anew with the present secret"),
            // Whoever changed it meanwhile has sealed it.
            Err(roo_kv::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The names of keys with any of these prefixes, as far as this node knows.
    async fn names_under(&self, prefixes: &[&str]) -> Result<Vec<String>, VaultError> {
        let mut names = BTreeSet::new();
        for prefix in prefixes {
            let mut scan = Scan::prefix(*prefix);
            loop {
                let page = self.store.scan(scan.clone(), ReadLevel::Stale).await.map_err(VaultError::unavailable)?;
                let name = |(key, _): &(Key, Entry)| key.as_str().strip_prefix(prefix).map(str::to_owned);
                names.extend(page.entries.iter().filter_map(name));
                scan.after = page.entries.last().map(|(key, _)| key.clone());
                if !page.more {
                    break;
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn sealed(&self, item: &Item, plain: &[u8]) -> Result<(Key, Bytes), VaultError> {
        let key = key_of(item);
        let record = self.seal(&key, plain).map_err(|error| VaultError::unreadable(item, error))?;
        Ok((key, record))
    }
}

fn facts_json(facts: &Facts) -> String {
    serde_json::to_string(facts).unwrap_or_default()
}

/// A claim of the issuer is a lock of the cluster.
fn lock_of(claim: &Claim) -> Lock {
    Lock { what: claim.what.clone(), lease: LeaseId(claim.lease), fence: Revision(claim.fence) }
}

fn key_of(item: &Item) -> Key {
    match item {
        Item::Account { directory } => keys::account(directory),
        Item::Ledger { directory } => keys::ledger(directory),
        Item::Order { name } => keys::order(name),
        Item::Spent { name } => keys::spent(name),
        Item::Certificate { name } => keys::certificate(name),
        Item::Attempts { name } => keys::attempts(name),
        Item::Wish { name } => keys::wish(name),
        Item::Renewal { name } => keys::renewal(name),
        Item::Unused { name } => keys::unused(name),
        Item::Probe { name } => keys::probe(name),
        Item::DnsAccount { name, server } => keys::dns_account(name, server),
        Item::InternalCa => keys::internal_ca(),
    }
}

fn key_of_answer(answer: &Answer) -> Key {
    match answer {
        Answer::Http { token, .. } => keys::answer(token),
        Answer::TlsAlpn { name, .. } => keys::tls_answer(name),
    }
}

impl roo_acme::Vault for Vault {
    async fn load(&self, item: &Item) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.look(item).await?.0)
    }

    async fn look(&self, item: &Item) -> Result<(Option<Vec<u8>>, Version), VaultError> {
        let key = key_of(item);
        let entry = self.store.get(&key, ReadLevel::Linearizable).await.map_err(VaultError::unavailable)?;
        let version = Version(entry.as_ref().map_or(0, |entry| entry.mod_revision.0));
        let open = |entry: roo_kv::Entry| self.open(&key, &entry.value);
        let plain = entry.map(open).transpose().map_err(|error| VaultError::unreadable(item, error))?;
        Ok((plain, version))
    }

    async fn swap(
        &self,
        item: &Item,
        bytes: Option<Vec<u8>>,
        version: Version,
        claim: &Claim,
    ) -> Result<bool, VaultError> {
        let op = match bytes {
            Some(bytes) => {
                let (key, value) = self.sealed(item, &bytes)?;
                Op::Put { key, value, lease: None }
            }
            None => Op::Delete { key: key_of(item) },
        };
        let expected = match version {
            Version(0) => Expect::Absent,
            Version(revision) => Expect::Revision(Revision(revision)),
        };
        let condition = Compare { key: key_of(item), test: Test::Expect(expected) };
        match self.locks.write(&lock_of(claim), Some(condition), vec![op]).await.map_err(VaultError::unavailable)? {
            Fenced::Written(_) => Ok(true),
            Fenced::Otherwise => Ok(false),
            Fenced::Lost => Err(VaultError::ClaimLost { what: claim.what.clone() }),
        }
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

    async fn names(&self) -> Result<Vec<String>, VaultError> {
        self.names_under(keys::KEPT_PREFIXES).await
    }

    async fn unused(&self) -> Result<Vec<String>, VaultError> {
        self.names_under(&[keys::UNUSED_PREFIX]).await
    }

    async fn claim(&self, what: &str, ttl: Duration) -> Result<Option<Claim>, VaultError> {
        let lock = self.locks.take(what, ttl).await.map_err(VaultError::unavailable)?;
        Ok(lock.map(|lock| Claim { what: lock.what, lease: lock.lease.0, fence: lock.fence.0 }))
    }

    async fn keep(&self, claim: &Claim) -> Result<(), VaultError> {
        match self.locks.keep(&lock_of(claim)).await.map_err(VaultError::unavailable)? {
            true => Ok(()),
            false => Err(VaultError::ClaimLost { what: claim.what.clone() }),
        }
    }

    async fn release(&self, claim: Claim) -> Result<(), VaultError> {
        self.locks.release(lock_of(&claim)).await.map_err(VaultError::unavailable)
    }

    async fn publish_answer(&self, answer: &Answer, claim: &Claim) -> Result<(), VaultError> {
        let (Answer::Http { key_authorization, .. } | Answer::TlsAlpn { key_authorization, .. }) = answer;
        let value = Bytes::from(key_authorization.clone());
        let put = Op::Put { key: key_of_answer(answer), value, lease: Some(LeaseId(claim.lease)) };
        let revision = self.fenced(claim, put).await?;
        let missing = self.store.wait_applied_everywhere(revision, PUBLISH_TIMEOUT).await;
        if missing > 0 {
            tracing::warn!(missing, "not every node can answer the challenge yet");
        }
        Ok(())
    }

    async fn retract_answer(&self, answer: &Answer, claim: &Claim) -> Result<(), VaultError> {
        self.fenced(claim, Op::Delete { key: key_of_answer(answer) }).await.map(drop)
    }
}
