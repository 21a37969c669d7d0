//! A store in memory that several nodes share, with the promises that `Vault` asks for.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use roo_acme::{
    Answer, Attempts, Certificate, Claim, Inventory, Item, Names, Vault, VaultError, Version, Wish, Wishes,
};
use tokio::sync::watch;
use tokio::time::Instant;

/// The store.
pub(crate) struct Cluster {
    state: Mutex<State>,
    /// Names that are wanted, for the issuers.
    pub(crate) wanted: watch::Sender<Names>,
    /// Certificates that are there, for the issuers.
    pub(crate) have: watch::Sender<Inventory>,
    /// What people ask for, for the issuers.
    pub(crate) wishes: watch::Sender<Wishes>,
}

#[derive(Default)]
struct State {
    items: BTreeMap<Item, Vec<u8>>,
    /// The last write of each, by number.
    versions: BTreeMap<Item, u64>,
    writes: u64,
    answers: Vec<Answer>,
    answers_ever: usize,
    claim: Option<(u64, Instant, Duration)>,
    claims_ever: u64,
    issued: BTreeMap<String, usize>,
    latency: Duration,
}

impl Cluster {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            wanted: watch::Sender::default(),
            have: watch::Sender::default(),
            wishes: watch::Sender::default(),
        })
    }

    /// Adds names to be served.
    pub(crate) fn want(&self, names: &[&str]) {
        self.wanted.send_modify(|wanted| {
            for name in names {
                wanted.insert_mut((*name).to_owned());
            }
        });
    }

    /// As the API does when a person asks.
    pub(crate) fn wish(&self, name: &str, wish: Wish) {
        self.state().put(Item::Wish { name: name.to_owned() }, wish.encode());
        self.wishes.send_modify(|wishes| wishes.insert_mut(name.to_owned(), wish));
    }

    pub(crate) fn certificate(&self, name: &str) -> Option<Certificate> {
        let name = name.to_owned();
        let bytes = self.item(&Item::Certificate { name })?;
        Some(Certificate::decode(&bytes).unwrap())
    }

    /// As if it had been issued before.
    pub(crate) fn put_certificate(&self, name: &str, certificate: &Certificate) {
        let item = Item::Certificate { name: name.to_owned() };
        let bytes = certificate.encode();
        self.show(&item, Some(&bytes));
        self.state().put(item, bytes);
    }

    /// Names that are not to be served any more.
    pub(crate) fn unwant(&self, name: &str) {
        self.wanted.send_modify(|wanted| {
            wanted.remove_mut(name);
        });
    }

    /// As if it had been stored before.
    pub(crate) fn put_item(&self, item: Item, bytes: Vec<u8>) {
        self.state().put(item, bytes);
    }

    pub(crate) fn attempts(&self, name: &str) -> Option<Attempts> {
        let name = name.to_owned();
        let bytes = self.item(&Item::Attempts { name })?;
        Some(Attempts::decode(&bytes).unwrap())
    }

    pub(crate) fn item(&self, item: &Item) -> Option<Vec<u8>> {
        self.state().items.get(item).cloned()
    }

    /// The text to be given for `token`.
    pub(crate) fn answer(&self, token: &str) -> Option<String> {
        let text = |answer: &Answer| match answer {
            Answer::Http { token: found, key_authorization } if found == token => Some(key_authorization.clone()),
            _ => None,
        };
        self.state().answers.iter().find_map(text)
    }

    /// What the handshake for `name` is to show.
    pub(crate) fn tls_answer(&self, name: &str) -> Option<String> {
        let text = |answer: &Answer| match answer {
            Answer::TlsAlpn { name: found, key_authorization } if found == name => Some(key_authorization.clone()),
            _ => None,
        };
        self.state().answers.iter().find_map(text)
    }

    pub(crate) fn answers(&self) -> usize {
        self.state().answers.len()
    }

    /// How many answers were ever published, repeated ones included.
    pub(crate) fn answers_ever(&self) -> usize {
        self.state().answers_ever
    }

    pub(crate) fn claims_ever(&self) -> u64 {
        self.state().claims_ever
    }

    /// How often a certificate for `name` was saved.
    pub(crate) fn issued(&self, name: &str) -> usize {
        self.state().issued.get(name).copied().unwrap_or_default()
    }

    /// Makes every call of a node take up to this long before it happens.
    pub(crate) fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Shows a certificate to the issuers; later than it is stored, if there is latency.
    fn show(&self, item: &Item, bytes: Option<&[u8]>) {
        let Item::Certificate { name } = item.clone() else { return };
        let facts = bytes.map(|bytes| Certificate::decode(bytes).unwrap().facts());
        let lag = self.state().latency.mul_f64(20.0 * fastrand::f64());
        let have = self.have.clone();
        let show = move || {
            have.send_modify(|have| match facts {
                Some(facts) => have.insert_mut(name, facts),
                None => drop(have.remove_mut(&name)),
            });
        };
        if lag.is_zero() {
            return show();
        }
        tokio::spawn(async move {
            tokio::time::sleep(lag).await;
            show();
        });
    }
}

impl State {
    fn put(&mut self, item: Item, bytes: Vec<u8>) {
        self.writes += 1;
        self.versions.insert(item.clone(), self.writes);
        self.items.insert(item, bytes);
    }

    fn take(&mut self, item: &Item) {
        self.versions.remove(item);
        self.items.remove(item);
    }

    fn check(&self, claim: &Claim) -> Result<(), VaultError> {
        match self.claim {
            Some((fence, until, _)) if fence == claim.fence && until > Instant::now() => Ok(()),
            _ => Err(VaultError::ClaimLost { what: claim.what.clone() }),
        }
    }
}

/// One node's way to the store.
pub(crate) struct NodeVault {
    cluster: Arc<Cluster>,
    /// The node is cut off: nothing reaches the store.
    pub(crate) cut: AtomicBool,
    /// The node stops, for ever, right after an answer was published.
    pub(crate) freeze_after_answer: AtomicBool,
    /// The node stops, for ever, when it is about to write an order for the n-th time from now; 0 = never.
    pub(crate) freeze_at_order: AtomicUsize,
    /// How often the node got the claim.
    pub(crate) claims: AtomicUsize,
    /// What somebody else does right after the node has looked at an item, once.
    pub(crate) meanwhile: Mutex<Option<(Item, Deed)>>,
}

/// What somebody does with the store.
pub(crate) type Deed = Box<dyn FnOnce(&Cluster) + Send>;

impl NodeVault {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Arc<Self> {
        Arc::new(Self {
            cluster: cluster.clone(),
            cut: AtomicBool::new(false),
            freeze_after_answer: AtomicBool::new(false),
            freeze_at_order: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
            meanwhile: Mutex::default(),
        })
    }

    /// The way to the store: takes its time, if it is open at all.
    async fn travel(&self) {
        let latency = self.cluster.state().latency;
        tokio::time::sleep(latency.mul_f64(fastrand::f64())).await;
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, VaultError> {
        match self.cut.load(Ordering::SeqCst) {
            true => Err(VaultError::unavailable("this node is cut off")),
            false => Ok(self.cluster.state()),
        }
    }

    /// Writes or removes `item` if the claim holds and the item stands as expected; whether it does.
    fn write(
        &self,
        item: &Item,
        bytes: Option<Vec<u8>>,
        expected: Option<Version>,
        claim: &Claim,
    ) -> Result<bool, VaultError> {
        let mut state = self.state()?;
        state.check(claim)?;
        let version = Version(state.versions.get(item).copied().unwrap_or_default());
        if expected.is_some_and(|expected| expected != version) {
            return Ok(false);
        }
        match (&bytes, item) {
            (Some(_), Item::Certificate { name }) => *state.issued.entry(name.clone()).or_default() += 1,
            (None, Item::Wish { name }) => {
                self.cluster.wishes.send_if_modified(|wishes| wishes.remove_mut(name));
            }
            _ => {}
        }
        match bytes.clone() {
            Some(bytes) => state.put(item.clone(), bytes),
            None => state.take(item),
        }
        drop(state);
        self.cluster.show(item, bytes.as_deref());
        Ok(true)
    }
}

impl Vault for NodeVault {
    async fn load(&self, item: &Item) -> Result<Option<Vec<u8>>, VaultError> {
        self.travel().await;
        Ok(self.state()?.items.get(item).cloned())
    }

    async fn create(&self, item: &Item, bytes: Vec<u8>) -> Result<bool, VaultError> {
        self.travel().await;
        let mut state = self.state()?;
        let free = !state.items.contains_key(item);
        if free {
            state.put(item.clone(), bytes);
        }
        Ok(free)
    }

    async fn save(&self, item: &Item, bytes: Vec<u8>, claim: &Claim) -> Result<(), VaultError> {
        self.travel().await;
        if matches!(item, Item::Order { .. }) && self.freeze_at_order.load(Ordering::SeqCst) > 0 {
            // The last one stays away, whoever asks.
            let left = self.freeze_at_order.fetch_sub(1, Ordering::SeqCst) - 1;
            if left == 0 {
                pending::<()>().await;
            }
        }
        self.write(item, Some(bytes), None, claim).map(drop)
    }

    async fn remove(&self, item: &Item, claim: &Claim) -> Result<(), VaultError> {
        self.travel().await;
        self.write(item, None, None, claim).map(drop)
    }

    async fn look(&self, item: &Item) -> Result<(Option<Vec<u8>>, Version), VaultError> {
        self.travel().await;
        let state = self.state()?;
        let seen = (state.items.get(item).cloned(), Version(state.versions.get(item).copied().unwrap_or_default()));
        drop(state);
        if let Some((_, deed)) = self.meanwhile.lock().unwrap().take_if(|(awaited, _)| awaited == item) {
            deed(&self.cluster);
        }
        Ok(seen)
    }

    async fn swap(
        &self,
        item: &Item,
        bytes: Option<Vec<u8>>,
        version: Version,
        claim: &Claim,
    ) -> Result<bool, VaultError> {
        self.travel().await;
        self.write(item, bytes, Some(version), claim)
    }

    async fn unused(&self) -> Result<Vec<String>, VaultError> {
        self.travel().await;
        let marked = |item: &Item| match item {
            Item::Unused { name } => Some(name.clone()),
            _ => None,
        };
        Ok(self.state()?.items.keys().filter_map(marked).collect())
    }

    async fn names(&self) -> Result<Vec<String>, VaultError> {
        self.travel().await;
        let kept = |item: &Item| match item {
            Item::Order { name }
            | Item::Attempts { name }
            | Item::Spent { name }
            | Item::Renewal { name }
            | Item::Unused { name } => Some(name.clone()),
            _ => None,
        };
        Ok(self.state()?.items.keys().filter_map(kept).collect())
    }

    async fn claim(&self, what: &str, ttl: Duration) -> Result<Option<Claim>, VaultError> {
        self.travel().await;
        let mut state = self.state()?;
        if state.claim.is_some_and(|(_, until, _)| until > Instant::now()) {
            return Ok(None);
        }
        state.claims_ever += 1;
        let fence = state.claims_ever;
        state.claim = Some((fence, Instant::now() + ttl, ttl));
        self.claims.fetch_add(1, Ordering::SeqCst);
        Ok(Some(Claim { what: what.to_owned(), lease: fence, fence }))
    }

    async fn keep(&self, claim: &Claim) -> Result<(), VaultError> {
        self.travel().await;
        let mut state = self.state()?;
        state.check(claim)?;
        if let Some((_, until, ttl)) = &mut state.claim {
            *until = Instant::now() + *ttl;
        }
        Ok(())
    }

    async fn release(&self, claim: Claim) -> Result<(), VaultError> {
        self.travel().await;
        let mut state = self.state()?;
        if state.check(&claim).is_ok() {
            state.claim = None;
        }
        Ok(())
    }

    async fn publish_answer(&self, answer: &Answer, claim: &Claim) -> Result<(), VaultError> {
        self.travel().await;
        {
            let mut state = self.state()?;
            state.check(claim)?;
            state.answers.retain(|other| other != answer);
            state.answers.push(answer.clone());
            state.answers_ever += 1;
        }
        if self.freeze_after_answer.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn retract_answer(&self, answer: &Answer, claim: &Claim) -> Result<(), VaultError> {
        self.travel().await;
        let mut state = self.state()?;
        state.check(claim)?;
        state.answers.retain(|other| other != answer);
        Ok(())
    }
}
