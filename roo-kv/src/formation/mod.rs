//! How nodes find each other and become one cluster, never two.
//!
//! - A cluster is founded only by a node that holds durable grants of a majority of the configured nodes, itself
//!   included. A node grants one initiator only, and never founds after it granted. Two majorities share a node, so
//!   two clusters cannot both be founded.
//! - The first members are exactly the granters: without them nothing can ever be committed.
//! - A grant ends only when the initiator itself says that it no longer founds that cluster. Its silence ends nothing,
//!   nor does another node at its address: it may have founded the cluster, with this node among the voters, and have
//!   moved. Whoever finds a cluster joins it.
//! - A node that a name showed nobody but itself for long may be wrong. When it then meets a cluster under that name and
//!   its own one holds nothing that anybody would miss, it gives its own one up and joins.
//! - Where a name may show too few for longer than anybody waits, a person can say how many to expect: then the majority
//!   is one of these at least.
//! - Where an orchestrator tells who the others are, it alone is believed, and only who is told how many there are meant to be
//!   founds: see [`crate::attest`].
//! - What a node does next is decided by [`decide`] from what it saw; the rest of this folder looks and acts.

mod clearance;
mod decide;
mod driver;
mod own_address;
mod targets;

pub(crate) use clearance::Clearance;
pub(crate) use driver::Former;
pub(crate) use own_address::OwnAddress;
