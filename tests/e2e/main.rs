//! End to end: the real binary in separate processes, real TLS, real Pebble, real peers.
//!
//! Every test starts what it needs on ports that the system picks and ends it by its own id. `ROO_BIN` names the
//! binary; without it the release build of this workspace is used.

mod support;

mod access;
mod access_log;
mod api_tls;
mod backup;
mod by_dns;
mod certs;
mod cli;
mod cluster;
mod condition;
mod dev;
mod disk;
mod docs;
mod explain;
mod imports;
mod issuers;
mod kv;
mod lease;
mod live;
mod membership;
mod migrates;
mod pebble;
mod profile;
mod proxy;
mod routes;
mod secrets;
mod services;
mod stall;
mod tickets;
mod txn;
mod upgrade;
mod watch;
