//! The one catalog of nodes, services and instances.
//!
//! The vocabulary:
//!
//! - A *service* ([`ServiceName`]) is a name under which the same thing is offered, perhaps several times.
//! - An *instance* ([`Instance`]) is one of those times: an address, and what is known about it.
//! - A *node* ([`Node`]) is a machine of the cluster; an instance runs on one, which may not be known.
//! - A *door* is a way in which instances are announced: the API, labels, gossip and so on. Each instance names
//!   its door as its [`Source`], and every door shows the instances of all of them.
//! - The *catalog* ([`Catalog`]) is all of that at one moment, immutable.
//!
//! The crate stores nothing, watches nothing and does no I/O: whoever has records builds a catalog of them.

mod catalog;
mod instance;

mod address;
mod metadata;
mod names;
mod rendezvous;
mod weight;

pub use address::{Address, AddressError, Host};
pub use catalog::{Catalog, Node};
pub use instance::{Instance, RECORD_BYTES_MAX, RecordError, State};
pub use metadata::{Metadata, MetadataError};
pub use names::{InstanceId, NameError, NodeName, ServiceName, Source};
pub use weight::{Weight, WeightError};

/// The domain under which services have names: `shop.service.roo` is the service `shop`.
pub const SERVICE_DOMAIN: &str = "service.roo";
