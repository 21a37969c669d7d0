//! The ACME client (RFC 8555): the only module that names the library we speak it with.
//!
//! Everything here is one exchange or a few with the CA; what they mean for a name is decided elsewhere.

mod account;
mod caller;
mod fault;
mod http;
mod order;

pub(crate) use account::{Session, StoredAccount};
pub(crate) use fault::Fault;
pub(crate) use order::{Listed, Order, Proof, Stage};
