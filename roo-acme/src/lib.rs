//! Certificates for Roo: when to order, challenges, orders, renewal, the internal CA.
//!
//! This crate owns the small [`Vault`] trait for storing and publishing; whoever runs an [`Issuer`]
//! plugs a store in. It knows nothing of that store, of routes, or of where names come from.
//!
//! # Vocabulary
//!
//! - **name**: a DNS name somebody wants served over TLS (`shop.example`, `*.shop.example`).
//! - **authority**: who signs: ACME directories in order of preference, Roo's own CA, or nobody ([`Authority`]).
//! - **certificate**: chain and private key for one name ([`Certificate`]); [`Facts`] is what may be shown of it.
//! - **order**: one attempt at an authority to get a certificate; it is stored, so another node can finish it.
//! - **challenge**: a way to prove a name to an authority ([`Challenge`]); **answer**: what it then finds on every node.
//! - **claim**: the lease under which one node of the cluster issues ([`Claim`]); writes are fenced by it.
//! - **wish**: what a person asks for a name, to be fulfilled by whoever holds the claim ([`Wish`]).
//! - **renewal**: when the authority would like a certificate to be renewed ([`Renewal`], RFC 9773).
//! - **ledger**: how a CA fares and what was spent of its limits ([`Limits`]), for the whole cluster ([`Ledger`]).
//! - **attempts**: how often a name failed, why, and when it is tried again ([`Attempts`]).
//!
//! # What always holds
//!
//! - Only the holder of the claim talks to the authority; after the claim it checks the store again.
//! - An order is stored before it is made at the authority, and is looked for and finished rather than repeated.
//! - A name that failed is not tried before its back-off is over, whichever node is asked, and across restarts.
//! - Private keys leave this crate only as values for the vault; they have no `Debug` and are never logged.

// API
mod account;
mod attempts;
mod authority;
mod cas;
mod certificate;
mod challenge;
mod clock;
mod dns;
mod import;
mod inventory;
mod issuer;
mod limits;
mod probe;
mod rehearsal;
mod renewal;
mod settings;
mod tls_alpn;
mod transport;
mod vault;
mod wish;

// Internals
mod acme;
mod agenda;
mod backoff;
mod books;
mod choice;
mod desk;
mod failure;
mod intent;
mod internal;
mod keys;
mod ledger;
mod memory;
mod order;
mod prober;
mod proof;
mod queue;
mod record;
mod records;
mod revoke;
mod schedule;
mod sessions;
mod timestamp;
mod unused;
mod waiting;
mod web;
mod wildcard;

pub use account::{RollOverError, roll_over};
pub use attempts::Attempts;
pub use authority::{AcmeConfig, Authority, AuthorityError, LETS_ENCRYPT_PRODUCTION, LETS_ENCRYPT_STAGING};
pub use cas::{Cas, ExternalAccount};
pub use certificate::{Certificate, CertificateError, Details, Facts, Managed, Pair, Revoked};
pub use challenge::{Challenge, Challenges, UnknownChallenge};
pub use clock::Clock;
pub use dns::{AcmeDns, AcmeDnsAccount, DnsConfig, DnsHook, DnsUpdate, DnsWriter, TsigAlgorithm};
pub use import::{IMPORTED, ImportError};
pub use internal::{CaCertificate, CaFacts, InternalError, internal_ca_facts, internal_root_pem};
pub use inventory::{Inventory, Names};
pub use issuer::{CLAIM, Issuer};
pub use keys::{KeyKind, Keys, UnknownKey};
pub use ledger::Ledger;
pub use limits::{Limit, Limits};
pub use probe::{Probe, ProbeConfig};
pub use record::RecordError;
pub use renewal::{Renewal, Window, renew_at};
pub use settings::Settings;
pub use tls_alpn::{TlsAlpnError, tls_alpn_certificate};
pub use transport::{Exchange, Transport};
pub use vault::{Answer, Claim, Item, Vault, VaultError, Version};
pub use waiting::{Waiting, waiting};
pub use wildcard::wildcard_above;
pub use wish::{Meant, Reason, Revocation, Wish, Wishes};
