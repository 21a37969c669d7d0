//! What tests start, ask and wait for.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod context;
pub mod counter;
pub mod dns;
pub mod events;
pub mod files;
pub mod https;
pub mod knot;
pub mod pebble;
pub mod pki;
pub mod ports;
pub mod process;
pub mod upstream;
pub mod wait;

pub use anyhow::{Result, bail, ensure};
