//! The store as the issuer needs it: a few records, one claim, and published answers.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Where the issuer keeps things; implemented over the replicated store.
///
/// Bytes handed in and out are plain and may hold private keys: the implementation seals them at rest.
/// Every future may be dropped at any await; a write may then have happened or not.
/// All methods are bounded in time by the implementation (a few seconds).
pub trait Vault: Send + Sync + 'static {
    /// The bytes last written for `item`, or `None`. The read sees every acknowledged write.
    fn load(&self, item: &Item) -> impl Future<Output = Result<Option<Vec<u8>>, VaultError>> + Send;

    /// As [`Vault::load`], and what tells how the item stands, for [`Vault::swap`].
    fn look(&self, item: &Item) -> impl Future<Output = Result<(Option<Vec<u8>>, Version), VaultError>> + Send;

    /// Writes `item`, or removes it for `None`, fenced like [`Vault::save`] and only if it still stands as it did when
    /// `version` was told, all in one transaction. `false`: somebody else has changed it, and nothing was written.
    fn swap(
        &self,
        item: &Item,
        bytes: Option<Vec<u8>>,
        version: Version,
        claim: &Claim,
    ) -> impl Future<Output = Result<bool, VaultError>> + Send;

    /// Writes `item` only if it does not exist yet: the first writer wins. `false` = it existed already.
    fn create(&self, item: &Item, bytes: Vec<u8>) -> impl Future<Output = Result<bool, VaultError>> + Send;

    /// Writes `item`, in one transaction with the check that `claim` is still held;
    /// [`VaultError::ClaimLost`] and no write otherwise.
    fn save(&self, item: &Item, bytes: Vec<u8>, claim: &Claim) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Removes `item`, fenced like [`Vault::save`]. Removing what is not there is no error.
    fn remove(&self, item: &Item, claim: &Claim) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// The names of which an order, attempts, spent limits, advice on renewal or a mark of disuse is kept, certificate or not.
    fn names(&self) -> impl Future<Output = Result<Vec<String>, VaultError>> + Send;

    /// The names that have a mark of disuse.
    fn unused(&self) -> impl Future<Output = Result<Vec<String>, VaultError>> + Send;

    /// Takes the cluster-wide claim `what` for `ttl`; `None` = somebody else holds it.
    fn claim(&self, what: &str, ttl: Duration) -> impl Future<Output = Result<Option<Claim>, VaultError>> + Send;

    /// Holds `claim` for another full ttl from now; [`VaultError::ClaimLost`] when it is no longer ours.
    fn keep(&self, claim: &Claim) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Gives `claim` back so that another node may take it at once. Giving back what is lost is no error.
    fn release(&self, claim: Claim) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Publishes an answer; returns when every live node can give it. Publishing the same again is no error. Fenced
    /// like [`Vault::save`]. The answer may end with the claim's lease or after a day: whoever continues the order
    /// publishes it again.
    fn publish_answer(&self, answer: &Answer, claim: &Claim) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// Takes an answer back, fenced like [`Vault::save`]. Taking back what is not there is no error.
    fn retract_answer(&self, answer: &Answer, claim: &Claim) -> impl Future<Output = Result<(), VaultError>> + Send;
}

/// What every node shows to a CA that comes to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The text `key_authorization` at `/.well-known/acme-challenge/<token>` (RFC 8555 section 8.3).
    Http {
        /// The last part of the path.
        token: String,
        /// The whole body.
        key_authorization: String,
    },
    /// [`crate::tls_alpn_certificate`] in handshakes for `name` (RFC 8737).
    TlsAlpn {
        /// The server name of the handshakes.
        name: String,
        /// What the certificate has a digest of.
        key_authorization: String,
    },
}

/// What a record is about. The implementation maps it to a key of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// The account at the ACME directory with this URL.
    Account {
        /// The directory's URL.
        directory: String,
    },
    /// What is known of the CA with this directory: [`crate::Ledger::encode`].
    Ledger {
        /// The directory's URL.
        directory: String,
    },
    /// The order in flight for a name: its URL and the private key made for it.
    Order {
        /// The name ordered.
        name: String,
    },
    /// The certificate of a name: [`crate::Certificate::encode`].
    Certificate {
        /// The name served.
        name: String,
    },
    /// Failures and back-off of a name: [`crate::Attempts::encode`].
    Attempts {
        /// The name that failed.
        name: String,
    },
    /// What a name has spent of the limits of CAs.
    Spent {
        /// The name ordered.
        name: String,
    },
    /// What a person asks for a name: [`crate::Wish::encode`].
    Wish {
        /// The name it is about.
        name: String,
    },
    /// The CA's advice on renewing the certificate of a name: [`crate::Renewal::encode`].
    Renewal {
        /// The name served.
        name: String,
    },
    /// Since when a name is not wanted any more of which something is kept.
    Unused {
        /// The name served before.
        name: String,
    },
    /// What was found when the name was looked at: [`crate::Probe::encode`].
    Probe {
        /// The name looked at.
        name: String,
    },
    /// The account for the name at the acme-dns server with this URL.
    DnsAccount {
        /// The name to be proven, without `*.`.
        name: String,
        /// The server's URL.
        server: String,
    },
    /// Root certificate and key of the internal CA.
    InternalCa,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { directory } => write!(f, "account at {directory}"),
            Self::Ledger { directory } => write!(f, "ledger of {directory}"),
            Self::Order { name } => write!(f, "order for {name}"),
            Self::Certificate { name } => write!(f, "certificate of {name}"),
            Self::Attempts { name } => write!(f, "attempts for {name}"),
            Self::Spent { name } => write!(f, "what {name} has spent"),
            Self::Wish { name } => write!(f, "wish for {name}"),
            Self::Renewal { name } => write!(f, "advice on renewing {name}"),
            Self::Unused { name } => write!(f, "mark of disuse of {name}"),
            Self::Probe { name } => write!(f, "findings about {name}"),
            Self::DnsAccount { name, server } => write!(f, "account for {name} at {server}"),
            Self::InternalCa => f.write_str("internal CA"),
        }
    }
}

/// How an item stands: another one after each write. 0 = it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// Proof of a claim, as the vault understands it. Only the vault makes and reads one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What was claimed.
    pub what: String,
    /// The vault's id of the lease that keeps it.
    pub lease: u64,
    /// The fencing number: different for every successful claim, for instance the revision it was written at.
    pub fence: u64,
}

/// Why the vault could not do it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The claim under which we write is no longer ours; the work must stop.
    #[error("the claim on {what:?} is held by another node now")]
    ClaimLost {
        /// What was claimed.
        what: String,
    },
    /// The store cannot answer now (no quorum, starting, overloaded); worth trying again later.
    #[error("the store is not available")]
    Unavailable {
        /// The store's own error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The record is there but cannot be opened, for instance because the cluster's secret was changed.
    #[error("the stored {item} cannot be opened")]
    Unreadable {
        /// The record.
        item: Item,
        /// What was wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl VaultError {
    /// [`VaultError::Unavailable`] from any error.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: source.into() }
    }

    /// [`VaultError::Unreadable`] from any error.
    pub fn unreadable(item: &Item, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unreadable { item: item.clone(), source: source.into() }
    }
}
