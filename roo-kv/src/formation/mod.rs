//! How nodes find each other and become one cluster, never two.
//!
//! - A cluster is founded only by a node that holds durable grants of a majority of the configured nodes, itself
//!   included. A node grants one initiator only, and never founds after it granted. Two majorities share a node, so
//!   two clusters cannot both be founded.
//! - The first members are exactly the granters: without them nothing can ever be committed.
//! - A grant ends only when the initiator itself says that it no longer founds that cluster, or when another node has
//!   its address. Whoever finds a cluster joins it.
//! - What a node does next is decided by [`decide`] from what it saw; the rest of this folder looks and acts.

mod decide;
mod driver;
mod own_address;
mod targets;

pub(crate) use driver::Former;
pub(crate) use own_address::OwnAddress;
