//! End to end: the real binary in separate processes, real TLS, real Pebble, real peers.
//!
//! Every test starts what it needs on ports that the system picks and ends it by its own id. `ROO_BIN` names the
//! binary; without it the release build of this workspace is used.

mod support;

mod cli;
mod cluster;
mod dev;
mod docs;
mod kv;
mod pebble;
mod profile;
mod proxy;
mod routes;
