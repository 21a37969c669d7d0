//! Docker and Swarm for Roo: services, labels, events.
//!
//! Vocabulary:
//! - **engine**: the Docker daemon that we ask, a manager of the swarm if it is to tell us anything;
//! - **service**: a Swarm service, by its full name (`stack_service`);
//! - **label**: a setting on a service, from `deploy.labels` (the service) or `labels` (its containers);
//! - **route**: what labels ask for, an origin (host, port, scheme) and the destination of its requests;
//! - **task**: one of the times that a service runs, at an address of its own;
//! - **snapshot**: everything seen at one moment, immutable, handed out through a `watch` channel;
//! - **problem**: a label that asks for something Roo can't do, with the fix.
//!
//! [`watch`] follows one engine and publishes [`Snapshot`]s. The crate neither stores routes nor serves
//! them: whoever receives the snapshots does. Reading labels is [`settle`], a pure function, which files can be given to
//! as well.

mod containers;
mod signals;
mod snapshot;
mod watcher;

mod backoff;
mod claims;
mod client;
mod description;
mod images;
mod kin;
mod labels;
mod subnets;
mod tasks;
mod tls;
mod wire;

pub use claims::settle;
pub use containers::{Containers, follow_containers};
pub use description::Description;
pub use kin::{Endpoint, Kin, KinError, KinNetwork, kin, meant};
pub use labels::{Exposed, Ports};
pub use signals::Stopping;
pub use snapshot::{
    LabelRoute, Problem, Service, Setting, SettingValue, Severity, Snapshot, State, Target, Task, TaskState,
};
pub use subnets::Subnets;
pub use tls::Tls;
pub use watcher::{Config, Handle, RescanError, Watcher, watch};
