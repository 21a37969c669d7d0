//! What of the async runtime a simulation must be able to replace: how openraft is driven, channels whose receivers
//! wake in a known order, blocking work, and randomness.
//!
//! In unit tests these are the simulated kind, which behave as the real ones outside of a simulation; everywhere else
//! they are tokio's own.

mod blocking;
mod random;
#[cfg(test)]
mod simulated;

pub(crate) use blocking::blocking;
pub(crate) use random::random;

#[cfg(not(test))]
pub(crate) use openraft_rt_tokio::TokioRuntime as Runtime;
#[cfg(not(test))]
pub(crate) use tokio::sync::watch;

#[cfg(test)]
pub(crate) use simulated::{Runtime, disk_time, set_disk_time, simulate, watch};
